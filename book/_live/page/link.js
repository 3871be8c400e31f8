// Links that carry state: the address names what a widget shows, and whoever opens it sees that.
//
//   #w=1&target=in+guest&break=1&s=8     the page's first widget, its choices by their labels, broken, at step 8
//
// It is the part behind the #, which a browser never sends to the server. A step replaces the address, any other change
// adds an entry to the history. A long text is packed: z. and base64url of its deflated bytes.
import { controls, read, steppers, write } from './state.js';

const PACK_FROM = 120;      // characters
const TOO_LONG = 30_000;    // characters of a link that some program on its way would cut

async function through(stream, bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

async function packed(text) {
  if (text.length < PACK_FROM && !text.startsWith('z.')) return text;
  const bytes = await through(new CompressionStream('deflate-raw'), new TextEncoder().encode(text));
  const binary = Array.from(bytes, byte => String.fromCharCode(byte)).join('');
  return `z.${btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}`;
}

async function unpacked(text) {
  if (!text.startsWith('z.')) return text;
  try {
    const binary = atob(text.slice(2).replaceAll('-', '+').replaceAll('_', '/'));
    return new TextDecoder().decode(await through(new DecompressionStream('deflate-raw'), Uint8Array.from(binary, c => c.charCodeAt(0))));
  } catch {
    return null;
  }
}

/** {number, wanted} of an address that carries state, else null. Repeated names: the last counts. */
export function parse(hash) {
  if (!hash.startsWith('#w=')) return null;
  const wanted = new Map(new URLSearchParams(hash.slice(1)));
  const number = Number(wanted.get('w'));
  wanted.delete('w');
  return { number: Number.isInteger(number) && number > 0 ? number : 1, wanted };
}

async function address(number, stepper, written) {
  const words = new URLSearchParams({ w: number });
  for (const [name, value] of read(stepper, written)) words.append(name, await packed(value));
  return `#${words}`;
}

const list = names => names.map(name => `“${name}”`).join(', ');

export class Links {
  constructor() {
    this.asked = parse(location.hash);
    this.written = new Set();   // models of texts that the reader wrote
    this.followed = new Set();
    this.lately = Promise.resolve();
  }

  /** Puts into the live widgets what `asked` names. Returns a sentence about what could not be, or ''. */
  async restore(roots, settled, asked = this.asked) {
    if (!asked) return '';
    const stepper = steppers(roots)[asked.number - 1];
    if (!stepper) return 'The link is for a widget that this page does not have.';
    const wanted = new Map();
    const damaged = [];
    for (const [name, value] of asked.wanted) {
      const text = await unpacked(value);
      if (text === null) damaged.push(name);
      else wanted.set(name, text);
    }
    this.restoring = true;
    const refused = [...damaged, ...await write(stepper, wanted, settled)];
    this.restoring = false;
    for (const { kind, name, model } of controls(stepper)) if (kind === 'text' && wanted.has(name)) this.written.add(model);
    return refused.length ? `The link’s ${list(refused)} cannot be shown here; the widget’s own stands.` : '';
  }

  /** From now on the address follows the widgets among `roots`, and each gets its button. `settled` as in restore(). */
  async follow(roots, places, settled) {
    this.roots = roots;
    this.settled = settled;
    const all = steppers(roots);
    this.first ??= await Promise.all(all.map((stepper, at) => address(at + 1, stepper, this.written)));
    for (const [at, stepper] of all.entries()) {
      if (places[at]) share(places[at], () => address(at + 1, stepper, this.written));
      for (const { kind, model } of controls(stepper)) {
        if (this.followed.has(model)) continue;
        this.followed.add(model);
        this.#listen(model, kind, at + 1, stepper);
      }
    }
    if (this.heard) return;
    this.heard = true;
    window.addEventListener('popstate', () => this.#back());
  }

  #listen(model, kind, number, stepper) {
    model.on('change:value change:index', () => {
      const byPython = model._state_lock && Object.keys(model._state_lock).length > 0;
      if (kind === 'text') this.written[byPython ? 'delete' : 'add'](model);
      if (this.restoring) return;
      // What Python changes in answer, and each step, belongs to the entry that the reader's choice made.
      const method = byPython || kind === 'step' ? 'replaceState' : 'pushState';
      this.lately = this.lately.then(() => this.#note(method, number, stepper));
    });
    // Python says that a text has become the reader's, or is no more.
    if (kind === 'text') model.on('change:_dom_classes', () => {
      if (!this.restoring) this.lately = this.lately.then(() => this.#note('replaceState', number, stepper));
    });
  }

  async #note(method, number, stepper) {
    const now = await address(number, stepper, this.written);
    this.last = number;
    if (now !== location.hash && now.length <= TOO_LONG) history[method](history.state, '', now);
  }

  /** The reader went back or forward: to a state, or to where the page had none yet. */
  async #back() {
    const asked = parse(location.hash) ?? parse(this.first[(this.last ?? 1) - 1] ?? '');
    if (asked) await this.restore(this.roots, this.settled, asked);
  }

  /** Brings the widget that the link is about into view. */
  show(places) {
    if (this.asked) places[this.asked.number - 1]?.scrollIntoView({ block: 'start' });
  }
}

/** The button under a live widget that copies the link, and says so. */
function share(place, link) {
  if (place.querySelector(':scope > .km-share')) return;
  const box = document.createElement('div');
  box.className = 'km-share';
  box.innerHTML = '<button type="button">Copy a link to this</button> <span role="status"></span>';
  const said = box.querySelector('span');
  box.querySelector('button').addEventListener('click', async () => {
    const hash = await link();
    if (hash.length > TOO_LONG) { said.textContent = 'The text is too long for a link: send it as a file.'; return; }
    const url = location.href.split('#')[0] + hash;
    try {
      await navigator.clipboard.writeText(url);
      said.textContent = 'The link is copied.';
    } catch {
      history.replaceState(history.state, '', hash);
      said.textContent = 'The link stands in the address bar.';   // the browser does not let pages copy
    }
  });
  place.append(box);
}
