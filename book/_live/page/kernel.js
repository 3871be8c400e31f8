// One Python in one worker: starts it, runs cells, carries comm messages, ends it. Knows nothing of the page.
import { Comm } from './comm.js';

export class Stopped extends Error {
  constructor() { super('Python was stopped.'); this.name = 'Stopped'; }
}

export class Kernel {
  /** `on`: {comm(comm, message), outputs(cell, outputs), busy(flag)} */
  constructor(folder, on) {
    this.folder = folder;
    this.on = on;
    this.comms = new Map();
    this.waiting = new Map();   // message id -> {callbacks} or {resolve, reject} of a run
    this.idlers = [];
    this.serial = 0;
    this.dead = false;
  }

  /** Resolves to {python, ipywidgets}. A refused memory snapshot is not an error: Python then starts the slow way. */
  async start() {
    const info = await this.#spawn('');
    return info.refused ? this.#spawn('?cold') : info;
  }

  #spawn(query) {
    if (this.dead) throw new Stopped();
    this.worker?.terminate();
    return new Promise((resolve, reject) => {
      this.failed = reject;
      this.worker = new Worker(`${this.folder}worker.js${query}`, { type: 'module' });
      this.worker.onerror = event => { event.preventDefault(); reject(new Error(event.message || 'worker.js did not start')); };
      this.worker.onmessage = ({ data }) => {
        if (data.type === 'ready' || data.type === 'refused') resolve({ ...data, refused: data.type === 'refused' });
        else if (data.type === 'fatal') reject(new Error(data.error));
        else this.#message(data);
      };
    });
  }

  #message(message) {
    const { type } = message;
    if (type === 'comm_open') {
      const comm = new Comm(message.comm_id, this);
      this.comms.set(message.comm_id, comm);
      this.on.comm(comm, message);
    } else if (type === 'comm_msg') this.comms.get(message.comm_id)?.message(message);
    else if (type === 'comm_close') {
      this.comms.get(message.comm_id)?.closed(message);
      this.comms.delete(message.comm_id);
    } else if (type === 'outputs') this.on.outputs(message.cell, message.outputs);
    else if (type === 'idle' || type === 'done') this.#answered(message);
    else if (type === 'log') console.error(message.error);
  }

  #answered(message) {
    const asked = this.waiting.get(message.msg_id);
    this.waiting.delete(message.msg_id);
    asked?.resolve?.(message);
    // The widget may send its next, held back change right here.
    asked?.callbacks?.iopub?.status?.({ header: { msg_type: 'status' }, content: { execution_state: 'idle' } });
    if (this.waiting.size) return;
    this.on.busy(false);
    this.idlers.splice(0).forEach(resolve => resolve());
  }

  #post(message, asked) {
    const msg_id = String(++this.serial);
    this.waiting.set(msg_id, asked);
    this.worker.postMessage({ ...message, msg_id });
    this.on.busy(true);
    return msg_id;
  }

  /** Resolves to {ok}; rejects with Stopped when Python is ended meanwhile. */
  run(cell, source) {
    if (this.dead) return Promise.reject(new Stopped());
    return new Promise((resolve, reject) => this.#post({ type: 'run', cell, source }, { resolve, reject }));
  }

  send(comm_id, data, callbacks, buffers) {
    if (this.dead) return '';
    const copies = (buffers ?? []).map(b => (b.buffer ? b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength) : b));
    return this.#post({ type: 'comm_msg', comm_id, data, buffers: copies }, { callbacks });
  }

  /** Resolves when Python has answered everything it was sent. */
  idle() {
    if (this.dead) return Promise.reject(new Stopped());
    return this.waiting.size ? new Promise(resolve => this.idlers.push(resolve)) : Promise.resolve();
  }

  /** Python cannot be interrupted from outside, so the whole worker goes. */
  stop() {
    if (this.dead) return;
    this.dead = true;
    this.worker?.terminate();
    this.failed?.(new Stopped());
    for (const asked of this.waiting.values()) asked.reject?.(new Stopped());
    this.waiting.clear();
  }
}
