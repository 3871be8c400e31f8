// ipywidgets' Button with a name for screen readers, and with clicks that can be remembered before Python is there.
import * as stock from '@jupyter-widgets/controls';

export class ButtonModel extends stock.ButtonModel {
  send(content, callbacks, buffers) {
    if (this.comm === undefined) this.widget_manager.unheard(this, content);
    super.send(content, callbacks, buffers);
  }
}

export class ButtonView extends stock.ButtonView {
  update() {
    super.update();
    // A button that shows an icon only has no text to read; its tooltip says what it does.
    const name = this.model.get('tooltip');
    const text = this.model.get('description').trim();
    if (name && !/[\p{L}\p{N}]/u.test(text)) this.el.setAttribute('aria-label', name);
    else this.el.removeAttribute('aria-label');
    this.el.type = 'button';
  }
}
