// The widget manager of a static site: knows the widget classes that are bundled here, and nothing to load more from.
import * as base from '@jupyter-widgets/base';
import * as stock from '@jupyter-widgets/controls';
import { ManagerBase } from '@jupyter-widgets/base-manager';
import { Widget } from '@lumino/widgets';
import { MessageLoop } from '@lumino/messaging';
import { ButtonModel, ButtonView } from './button.js';
import { PlayView } from './play.js';
import { TextareaView } from './textarea.js';
import { ToggleButtonsView } from './toggle_buttons.js';
import { OutputModel, OutputView } from './output.js';

const modules = {
  '@jupyter-widgets/base': base,
  '@jupyter-widgets/controls': { ...stock, ButtonModel, ButtonView, PlayView, TextareaView, ToggleButtonsView },
  '@jupyter-widgets/output': { OutputModel, OutputView },
};

export class Manager extends ManagerBase {
  constructor() {
    super();
    this.shown = new Set();
    // Lumino does not notice by itself that the page's layout changed.
    this.onResize = () => this.shown.forEach(view => resize(view));
    window.addEventListener('resize', this.onResize);
  }

  /** Draw a model inside `host`. */
  async show(model, host) {
    const view = await this.create_view(model);
    const node = view.luminoWidget.node;
    if (host.isConnected) {
      Widget.attach(view.luminoWidget, host);
    } else {
      // Outputs are built before they are put in the page, where Lumino wants an attached host.
      MessageLoop.sendMessage(view.luminoWidget, Widget.Msg.BeforeAttach);
      host.append(node);
      MessageLoop.sendMessage(view.luminoWidget, Widget.Msg.AfterAttach);
    }
    this.shown.add(view);
    view.once('remove', () => this.shown.delete(view));
    return view;
  }

  /** Everything that was drawn goes away, and with it its timers and listeners. */
  async dispose() {
    window.removeEventListener('resize', this.onResize);
    await this.clear_state();
  }

  // A click that no Python hears; the page's session puts a recorder here (see page/reader.js).
  unheard() {}

  async loadClass(name, module) {
    const found = modules[module]?.[name];
    if (!found) throw new Error(`The widget class ${module}:${name} is not part of this site.`);
    return found;
  }

  // Comms are opened by the Python side only.
  async _create_comm() { throw new Error('This page does not open comms.'); }
  async _get_comm_info() { return {}; }
}

function resize(view) {
  MessageLoop.postMessage(view.luminoWidget, Widget.ResizeMessage.UnknownSize);
}
