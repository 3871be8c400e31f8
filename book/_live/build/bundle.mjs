// Bundles the page's script and styles: node bundle.mjs OUT_DIR
import { build } from 'esbuild';
import { fileURLToPath } from 'node:url';
import path from 'node:path';

const here = path.dirname(fileURLToPath(import.meta.url));
const [out] = process.argv.slice(2);
const empty = path.join(here, 'empty.js');

await build({
  entryPoints: { live: path.join(here, '../page/main.js') },
  outdir: out,
  bundle: true,
  minify: true,
  format: 'iife',   // a module script would not run from file://, where the static widgets still should
  platform: 'browser',
  target: 'es2022',
  legalComments: 'none',
  loader: { '.svg': 'dataurl' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  alias: {
    // Cleans HTML in descriptions, with an HTML parser of its own. The pages' descriptions are plain text.
    'sanitize-html': path.join(here, 'sanitize.js'),
  },
  plugins: [{
    name: 'node-only',   // imported by packages that also run under Node; never called in a page
    setup(it) { it.onResolve({ filter: /^(path|url|crypto|fs)$/ }, () => ({ path: empty })); },
  }],
  logLevel: 'warning',
});
