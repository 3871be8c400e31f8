// Runs Pyodide and the page's Python off the main thread. A module worker; all its files lie beside it.
const folder = new URL('./', import.meta.url).href;
const cold = new URL(self.location.href).searchParams.has('cold');
const post = message => self.postMessage(message);

// Pyodide goes on, or waits for ever, when one of its files does not load: so its loads are watched, and end the start.
let giveUp;
const fault = new Promise((resolve, reject) => { giveUp = reject; });

const plainFetch = self.fetch;
self.fetch = async (...args) => {
  const url = String(args[0]?.url ?? args[0]);
  const response = await plainFetch(...args).catch(error => { giveUp(new Error(`${url}: ${error.message}`)); throw error; });
  if (!response.ok) giveUp(new Error(`${url}: status ${response.status}`));
  return response;
};

const { instantiate, instantiateStreaming } = WebAssembly;
WebAssembly.instantiateStreaming = async (source, imports) => {
  try {
    const response = await source;
    // A server that does not know the type of .wasm files costs a little time, no more.
    const known = response.headers.get('content-type')?.startsWith('application/wasm');
    return await (known ? instantiateStreaming(response, imports) : instantiate(await response.arrayBuffer(), imports));
  } catch (error) {
    giveUp(error);
    throw error;
  }
};

/** Python's memory as it was right after the imports, or null: then Python starts the slow way. */
async function snapshot() {
  try {
    const response = await plainFetch(`${folder}snapshot.bin.gz`);   // this one may be missing
    if (!response.ok) throw new Error(`status ${response.status}`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;   // the server declared the compression, the browser undid it
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Uint8Array(await new Response(unpacked).arrayBuffer());
  } catch (error) {
    console.warn(`No memory snapshot, starting without: ${error.message}`);
    return null;
  }
}

async function library() {
  const response = await fetch(`${folder}pylib.zip`);
  return new Uint8Array(await response.arrayBuffer());
}

/**
 * Makes Pyodide's module with memory for the snapshot, which may need more than Pyodide starts with: it is told the size, but
 * this build does not heed it. Allocating is what makes it grow; what that leaves behind, the snapshot and zeros overwrite.
 */
function moduleFor(memory) {
  return async settings => {
    const { default: create } = await import(`${folder}pyodide/pyodide.asm.mjs`);
    const module = await create(settings);
    const start = module.HEAP8.length;
    while (module.HEAP8.length < memory.length) if (!module._malloc(1 << 20)) throw new Error('no memory for the snapshot');
    module.HEAP8.fill(0, start);
    return module;
  };
}

async function boot() {
  const [{ loadPyodide }, lib, memory] = await Promise.all([
    import(`${folder}pyodide/pyodide.mjs`), library(), cold ? null : snapshot(),
  ]);
  const options = { indexURL: `${folder}pyodide/`, packageBaseUrl: `${folder}pyodide/`, env: { HOME: '/home/reader', PYTHONHASHSEED: '0' } };
  let py, bridge;
  try {
    py = await loadPyodide(memory ? { ...options, _loadSnapshot: memory, createPyodideModule: moduleFor(memory) } : options);
    py.FS.writeFile('/pylib.zip', lib);   // files are not part of the snapshot
    if (!memory) py.runPython('import sys; sys.path.insert(0, "/pylib.zip")');
    bridge = py.pyimport('kvmlive');
    if (!memory) bridge.install();   // the snapshot was taken after this
    bridge.connect(send);
    bridge.begin();
  } catch (error) {
    if (!memory) throw error;
    // Half a Python may be loaded by now: the page starts a fresh worker, without the snapshot.
    console.warn(`The memory snapshot was refused, starting without: ${error.message}`);
    post({ type: 'refused' });
    return new Promise(() => {});
  }
  post({ type: 'ready', python: py.runPython('import sys; sys.version.split()[0]') });
  return bridge;
}

/** Called from Python with a message as JSON and its binary buffers. */
function send(json, buffers) {
  const message = JSON.parse(json);
  message.buffers = buffers.toJs().map(one => (one instanceof Uint8Array ? one.slice().buffer : one));
  buffers.destroy();
  post(message);
}

const booted = Promise.race([boot(), fault]);
booted.catch(error => post({ type: 'fatal', error: String(error?.message ?? error) }));

let last = booted;   // messages are handled one after the other
self.onmessage = ({ data }) => {
  last = last.then(async () => {
    const bridge = await booted;
    if (data.type === 'run') await bridge.run_cell(data.msg_id, data.cell, data.source);
    else bridge.comm_message(JSON.stringify({ ...data, buffers: undefined }), data.buffers ?? []);
  }).catch(error => {
    post({ type: 'log', error: String(error?.stack ?? error) });
    post({ type: 'done', msg_id: data.msg_id, ok: false });
  });
};
