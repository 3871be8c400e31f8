// The Python side for the browser: node python.mjs PYODIDE_DIR LIB_DIR OUT_DIR
// Writes pylib.zip, compiled by Pyodide's own Python, whose bytecode differs from the builder's, and snapshot.bin.gz, the
// memory after the imports, so that readers do not wait for them.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';

const [pyodide, lib, out] = process.argv.slice(2).map(arg => path.resolve(arg));
const { loadPyodide } = await import(pathToFileURL(path.join(pyodide, 'pyodide.mjs')));
const options = { indexURL: pyodide + path.sep, env: { HOME: '/home/reader', PYTHONHASHSEED: '0' } };

async function compile() {
  const py = await loadPyodide(options);
  for (const entry of readdirSync(lib, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const source = path.join(entry.parentPath ?? entry.path, entry.name);
    const target = '/lib-src/' + path.relative(lib, source).split(path.sep).join('/');
    py.FS.mkdirTree(path.posix.dirname(target));
    py.FS.writeFile(target, readFileSync(source));
  }
  py.runPython(readFileSync(new URL('./compile.py', import.meta.url), 'utf8'));
  return py.FS.readFile('/pylib.zip');
}

async function snapshot(zip) {
  const py = await loadPyodide({ ...options, _makeSnapshot: true });
  py.FS.writeFile('/pylib.zip', zip);
  py.runPython(readFileSync(new URL('./preload.py', import.meta.url), 'utf8'));
  return py.makeMemorySnapshot();
}

try {
  mkdirSync(out, { recursive: true });
  const zip = await compile();
  writeFileSync(path.join(out, 'pylib.zip'), zip);
  writeFileSync(path.join(out, 'snapshot.bin.gz'), gzipSync(await snapshot(zip), { level: 9 }));
  process.exit(0);   // Pyodide keeps Node's event loop alive
} catch (error) {
  // Node would print Pyodide's source too, one line of a megabyte; a Python error's message can be empty.
  console.error(error.message || String(error.stack).slice(0, 2000));
  process.exit(1);
}
