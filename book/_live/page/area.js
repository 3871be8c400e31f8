// One cell's outputs: the static ones that were built, and the live ones that take their place.
import { VIEW_MIME, renderOutput, replaceOutputs } from '../widgets/render.js';

export class Area {
  constructor(box) {
    this.box = box;
    this.outputs = [];
    this.drawn = Promise.resolve();
  }

  /** A new run of the page: live outputs gather out of sight, and what is shown stays until reveal(). */
  begin(manager) {
    this.manager = manager;
    this.outputs = [];
    this.next = document.createElement('div');
    this.next.className = 'cell_output docutils container live-outputs';
    this.next.hidden = true;
    this.box.append(this.next);
  }

  draw(outputs) {
    const same = JSON.stringify(outputs) === JSON.stringify(this.outputs);
    this.outputs = outputs;
    if (same) return this.drawn;
    const { manager, next } = this;
    this.drawn = this.drawn.then(async () => {
      const elements = await Promise.all(outputs.map(output => renderOutput(manager, output)));
      replaceOutputs(next, elements);
    }).catch(error => console.error(error));
    return this.drawn;
  }

  reveal() {
    if (!this.next || this.shown === this.next) return;
    for (const old of this.box.querySelectorAll(':scope .cell_output')) {
      if (old === this.next) continue;
      if (old.classList.contains('live-outputs')) old.remove();
      else old.hidden = true;
    }
    this.next.hidden = false;
    this.shown = this.next;
    window.dispatchEvent(new Event('resize'));
  }

  /** Give up a run that never got as far as being shown. */
  abandon() {
    if (this.next && this.next !== this.shown) this.next.remove();
    this.next = this.shown;
  }

  /** The widgets at the top of this cell's live outputs, in order. */
  roots() {
    const ids = this.outputs.map(output => output.data?.[VIEW_MIME]?.model_id).filter(Boolean);
    return Promise.all(ids.map(id => this.manager.get_model(id)));
  }
}
