// The Output widget without JupyterLab: draws its `outputs` list and listens for changes.
import * as base from '@jupyter-widgets/base';
import { renderOutput, replaceOutputs } from './render.js';

const MODULE = { _model_module: '@jupyter-widgets/output', _view_module: '@jupyter-widgets/output',
  _model_module_version: '1.0.0', _view_module_version: '1.0.0' };

export class OutputModel extends base.DOMWidgetModel {
  defaults() {
    return { ...super.defaults(), ...MODULE, _model_name: 'OutputModel', _view_name: 'OutputView', msg_id: '', outputs: [] };
  }
}

export class OutputView extends base.DOMWidgetView {
  render() {
    super.render();
    this.el.classList.add('jupyter-widgets', 'widget-output', 'live-outputs');
    this.drawn = Promise.resolve();
    this.listenTo(this.model, 'change:outputs', () => this.draw());
    return this.draw();
  }

  draw() {  // one after the other, each swapped in at once, so that nothing flickers or arrives out of order
    this.drawn = this.drawn.then(async () => {
      const outputs = this.model.get('outputs') ?? [];
      replaceOutputs(this.el, await Promise.all(outputs.map(output => renderOutput(this.model.widget_manager, output))));
    }).catch(error => console.error(error));
    return this.drawn;
  }
}
