// Entry: draws the static widgets; on a page that can be live, wires bar, touch, keys and session together.
import '@jupyter-widgets/base/css/index.css';
import '@lumino/widgets/style/index.css';
import '@jupyter-widgets/controls/css/labvariables.css';
import '@jupyter-widgets/controls/css/widgets-base.css';
import './live.css';
import { installAnnouncer } from './announce.js';
import { Bar } from './bar.js';
import { installKeys } from './keys.js';
import { Reader } from './reader.js';
import { Session } from './session.js';
import { drawStatic } from './static.js';
import { missing } from './support.js';
import { onTouch } from './touch.js';

const folder = new URL('./', document.currentScript.src).href;   // every other file lies beside this one

function goLive(element, drawn) {
  const { cells } = JSON.parse(document.getElementById('live-cells').textContent);
  let session;
  const bar = new Bar(element, { start: () => session.start(), stop: () => session.stop() });
  const lacks = missing();
  if (lacks.length) return bar.unable(lacks);
  session = new Session({
    folder, cells, bar,
    reader: drawn.then(things => things && new Reader(things)),
    dropStatic: async () => (await drawn)?.manager.dispose(),
  });
  onTouch(() => session.start());
  if (session.links.asked) session.start();   // only Python can show what the link names
  return undefined;
}

function main() {
  installKeys();
  installAnnouncer();
  const drawn = drawStatic().catch(error => { console.error(error); return null; });
  if (document.getElementById('live-cells')) goLive(document.querySelector('.live-bar'), drawn);
  drawn.then(() => { document.documentElement.dataset.widgets = 'drawn'; });
}

if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', main);
else main();
