// One cell of the page: its code, its outputs, its editor.
import { Area } from './area.js';
import { Editor } from './editor.js';

export class Cell {
  constructor({ index, source, may_fail }, number, run) {
    this.index = index;
    this.number = number;
    this.mayFail = may_fail;
    this.written = source;
    this.box = document.querySelector(`.nbcell-${index}`);   // null when the author removed the cell from the page
    this.area = this.box && new Area(this.box);
    this.editor = this.box && new Editor(this.box, number, () => run(this));
    this.stoppedSource = null;   // what ran when the reader pressed Stop
  }

  get source() { return this.editor?.source ?? this.written; }
  /** A cell that had to be stopped is not started again by itself until its code changes. */
  get held() { return this.stoppedSource === this.source; }
}
