// From static to live, and back: starts Python, runs the page's cells, keeps what the reader set, stops.
import { Manager } from '../widgets/manager.js';
import { Cell } from './cell.js';
import { jupyter } from './comm.js';
import { Kernel, Stopped } from './kernel.js';
import { Links } from './link.js';
import { apply } from './reader.js';
import { faultyFile } from './support.js';
import { commitTyping, keepTyping } from './typing.js';

const SLOW = 700;   // ms of silence before the bar says that Python is busy

export class Session {
  /** `reader`: promise of what the reader does to the static widgets; `dropStatic`: removes those widgets. */
  constructor({ folder, cells, bar, reader, dropStatic }) {
    Object.assign(this, { folder, bar, reader, dropStatic, links: new Links() });
    this.cells = cells.map((cell, i) => new Cell(cell, i + 1, chosen => this.rerun(chosen)));
  }

  async start() {
    if (this.bar.active) return;
    performance.mark('live:asked');
    this.bar.say('starting', 'Starting Python in your browser…');
    const kernel = this.kernel = this.#kernel();
    try {
      const { python } = await kernel.start();
      this.ready = `Live: Python ${python} runs in your browser. Change the code or the widgets.`;
      const failed = await this.#runAll(kernel);
      const settled = () => this.#settled(kernel);
      await this.#restoreReader(settled);
      const stale = await this.links.restore(await this.#roots(), settled);
      await this.#show();
      await this.#follow(settled);
      this.#live(failed, stale);
    } catch (error) {
      await this.#failed(kernel, error);
    }
  }

  #kernel() {
    const manager = this.manager = new Manager();
    for (const cell of this.cells) cell.area?.begin(manager);
    return new Kernel(this.folder, {
      comm: (comm, message) => manager.handle_comm_open(comm, jupyter(message)).catch(error => console.error(error)),
      outputs: (index, outputs) => this.#outputs(index, outputs),
      busy: flag => this.#busy(flag),
    });
  }

  #outputs(index, outputs) {
    const cell = this.cells.find(one => one.index === index);
    if (cell?.area) cell.area.draw(outputs);
    else for (const output of outputs) if (output.output_type === 'error') console.error(output.traceback.join('\n'));
  }

  /** Runs cell after cell; ends at, and returns, the first that fails unexpectedly. */
  async #runAll(kernel) {
    for (const cell of this.cells) {
      if (cell.held) continue;
      this.bar.say('running', `Running cell ${cell.number} of ${this.cells.length}…`);
      const { ok } = await this.#run(kernel, cell);
      if (!ok && !cell.mayFail) return cell;
    }
    return null;
  }

  async #run(kernel, cell) {
    this.current = cell;
    const result = await kernel.run(cell.index, cell.source);
    this.current = null;
    cell.stoppedSource = null;
    await cell.area?.drawn;
    return result;
  }

  /** Resolves when Python has answered, and the widgets have taken the answer in. */
  async #settled(kernel) {
    await kernel.idle();
    await Promise.all(Object.values(this.manager._models).map(async model => (await model).state_change));
  }

  async #restoreReader(settled) {
    const reader = await this.reader;
    if (reader) commitTyping();
    const wishes = reader?.wishes() ?? [];
    const rootsOf = async box => (await this.cells.find(cell => cell.box === box)?.area.roots()) ?? [];
    await apply(wishes, rootsOf, settled, model => this.links.written.add(model));   // a text before Python was there
  }

  /** The widgets of all cells, in the order of the page. */
  async #roots() {
    return (await Promise.all(this.cells.map(cell => cell.area?.roots() ?? []))).flat();
  }

  /** The address follows what the live widgets show. A link that was opened brought its reader to its widget once. */
  async #follow(settled) {
    const places = this.cells.flatMap(cell => (cell.area?.shown ? [...cell.area.shown.querySelectorAll('.km-stepper')] : []));
    await this.links.follow(await this.#roots(), places, settled);
    this.links.show(places);
    this.links.asked = null;
  }

  async #show() {
    if (this.shown === this.manager) return;
    // Widgets go before their places in the page do; a stopped run's were left in view until now.
    const goOn = keepTyping();
    await (this.shown ? this.shown.dispose() : this.dropStatic());
    this.shown = this.manager;
    this.reader = null;   // from here on the live widgets hold what the reader sets
    for (const cell of this.cells) cell.area?.reveal();
    goOn();
  }

  #live(failed, stale = '') {
    this.#enable(true);
    const held = this.cells.filter(cell => cell.held).map(cell => cell.number).join(', ');
    let text = this.ready;
    if (held) text = `Live, but cell ${held} was not run, as it had to be stopped before. Change it, or run it by its button.`;
    if (failed) text = `Live, but cell ${failed.number} failed; see the message below it. You can change it and run it again.`;
    this.bar.say('live', stale ? `${text} ${stale}` : text);
    performance.mark('live:ready');
  }

  async rerun(cell) {
    if (this.bar.state !== 'live' || this.current) return;
    const { kernel } = this;
    this.bar.say('running', `Running cell ${cell.number}…`);
    try {
      const { ok } = await this.#run(kernel, cell);
      await this.#follow(() => this.#settled(kernel));
      this.bar.say('live', ok ? this.ready : `Cell ${cell.number} failed; see the message below it.`);
    } catch (error) {
      await this.#failed(kernel, error);
    }
  }

  #busy(flag) {
    clearTimeout(this.slow);
    if (!flag) {
      if (this.sayingBusy) this.bar.say('live', this.ready);
      this.sayingBusy = false;
      return;
    }
    this.slow = setTimeout(() => {
      if (this.bar.state !== 'live') return;
      this.sayingBusy = true;
      this.bar.say('live', 'Python is busy. Stop ends it.');
    }, SLOW);
  }

  stop() {
    if (!this.bar.active) return;
    if (this.current) this.current.stoppedSource = this.current.source;
    this.#end();
    this.bar.say('stopped', 'Stopped. Press “Run this page” to start Python again; your edits are kept.');
  }

  #end() {
    clearTimeout(this.slow);
    this.sayingBusy = false;
    this.current = null;
    this.kernel.stop();
    this.#enable(false);
    if (this.manager === this.shown) return;
    this.manager.dispose().then(() => { for (const cell of this.cells) cell.area?.abandon(); });
  }

  async #failed(kernel, error) {
    if (error instanceof Stopped || kernel !== this.kernel) return;   // the reader's wish, already said
    this.#end();
    this.bar.say('error', 'Python did not start; looking for the reason…');
    const reason = await faultyFile(this.folder) ?? `Reload the page to try again. (${String(error.message).split('\n').pop()})`;
    if (this.kernel === kernel) this.bar.say('error', `Python could not start; the page stays as it was built. ${reason}`);
  }

  #enable(on) { for (const cell of this.cells) cell.editor?.enable(on); }
}
