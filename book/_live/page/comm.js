// The page's end of one comm, with the interface that ipywidgets' models expect.

const views = buffers => (buffers ?? []).map(buffer => new DataView(buffer));

export class Comm {
  constructor(comm_id, kernel) {
    this.comm_id = comm_id;
    this.target_name = 'jupyter.widget';
    this.kernel = kernel;
  }

  // called by the widget
  send(data, callbacks, metadata, buffers) { return this.kernel.send(this.comm_id, data, callbacks, buffers); }
  open() { return ''; }
  close() { return ''; }
  on_msg(handler) { this.onMessage = handler; }
  on_close(handler) { this.onClose = handler; }

  // called by the kernel
  message(message) { this.onMessage?.(jupyter(message)); }
  closed(message) { this.onClose?.(jupyter(message)); }
}

/** The worker's message in the shape of Jupyter's protocol. */
export function jupyter({ content, metadata, parent, buffers }) {
  return { content, metadata, parent_header: { msg_id: parent }, buffers: views(buffers) };
}
