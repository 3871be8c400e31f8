// ipywidgets' ToggleButtons as what they are, a radio group: one tab stop, arrow keys choose.
import * as stock from '@jupyter-widgets/controls';

const NEXT = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

export class ToggleButtonsView extends stock.ToggleButtonsView {
  render() {
    super.render();
    this.buttongroup.addEventListener('keydown', event => this.onKey(event));
  }

  update(options) {
    if (!this.buttongroup) return super.update(options);
    // The stock view builds all buttons anew at each change, which drops the focus. "updated_view: this" tells it not to.
    const wants = JSON.stringify(['_options_labels', 'icons', 'tooltips', 'disabled'].map(key => this.model.get(key)));
    const same = wants === this.built && this.buttongroup.children.length > 0;
    this.built = wants;
    const result = super.update(same ? { ...options, updated_view: this } : options);
    this.describe();
    return result;
  }

  describe() {
    const chosen = this.model.get('index');
    this.buttongroup.setAttribute('role', 'radiogroup');
    this.buttongroup.setAttribute('aria-label', this.model.get('description') || this.model.get('tooltip') || 'Choice');
    this.radios().forEach((radio, i) => {
      radio.setAttribute('role', 'radio');
      radio.setAttribute('aria-checked', String(i === chosen));
      radio.tabIndex = i === (chosen ?? 0) ? 0 : -1;
    });
  }

  radios() { return [...this.buttongroup.querySelectorAll('button')]; }

  onKey(event) {
    const step = NEXT[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const radios = this.radios();
    const at = radios.indexOf(event.target.closest('button'));
    const next = radios[(at + step + radios.length) % radios.length];
    next.focus();
    next.click();
  }
}
