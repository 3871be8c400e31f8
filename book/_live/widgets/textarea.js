// ipywidgets' Textarea for code: nothing corrects its spelling, and Ctrl+Enter commits it without leaving it.
import * as stock from '@jupyter-widgets/controls';

const PLAIN = { spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', autocorrect: 'off' };

export class TextareaView extends stock.TextareaView {
  render() {
    super.render();
    for (const [name, value] of Object.entries(PLAIN)) this.textbox.setAttribute(name, value);
    this.textbox.addEventListener('keydown', event => {
      if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.textbox.dispatchEvent(new Event('change', { bubbles: true }));
    });
  }
}
