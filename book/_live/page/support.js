// What a browser must have to run Python here, and which file is at fault when something did not load.

/** Names, in the reader's words, of what is missing; empty when all is there. */
export function missing() {
  if (location.protocol === 'file:') {
    return ['a web server (this page was opened as a file; "make serve" in the book’s folder starts one)'];
  }
  const wants = [
    ['WebAssembly', typeof WebAssembly === 'object'],
    ['module workers', moduleWorkers()],
    ['DecompressionStream', typeof DecompressionStream === 'function'],
  ];
  return wants.filter(([, there]) => !there).map(([name]) => name);
}

function moduleWorkers() {
  if (typeof Worker !== 'function') return false;
  // A browser that knows module workers reads the option "type". It does so before it looks at the address, which is none.
  let read = false;
  try {
    new Worker('http://[', { get type() { read = true; return 'module'; } });
  } catch { /* as meant: no worker starts */ }
  return read;
}

/** Looks at each file that a live page needs; returns a sentence about the first that is not as it was built. */
export async function faultyFile(folder) {
  const list = await look(`${folder}files.json`);
  if (!list.response) return sentence('files.json', list.fault);
  const sizes = await list.response.json().catch(() => null);
  if (!sizes) return sentence('files.json', 'is damaged');
  for (const [name, bytes] of Object.entries(sizes)) {
    const { response, fault } = await look(folder + name);
    if (fault) return sentence(name, fault);
    const type = response.headers.get('content-type') ?? '';
    if (/\.m?js$/.test(name) && !type.includes('javascript')) {
      return sentence(name, `is served as “${type}” where a browser wants “text/javascript”`);
    }
    const got = (await response.arrayBuffer()).byteLength;
    if (got !== bytes) return sentence(name, `is damaged: ${got} of ${bytes} bytes`);
  }
  return null;
}

async function look(url) {
  try {
    const response = await fetch(url, { cache: 'reload' });
    return response.ok ? { response } : { fault: `could not be loaded (status ${response.status})` };
  } catch {
    return { fault: 'could not be loaded (no answer)' };
  }
}

const sentence = (name, fault) =>
  `The file ${name} ${fault}. Check the connection and press the button again; if you host this book, build it anew with “make book”.`;
