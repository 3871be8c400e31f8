// Draws one notebook output (nbformat) as a DOM element.

export const VIEW_MIME = 'application/vnd.jupyter.widget-view+json';
const BEST_FIRST = [VIEW_MIME, 'text/html', 'image/svg+xml', 'image/png', 'image/jpeg', 'text/markdown', 'text/plain'];

const joined = value => (Array.isArray(value) ? value.join('') : String(value));
const plain = text => text.replace(/\x1b\[[0-9;]*m/g, '');  // terminal colours mean nothing here

function pre(text, className) {
  const element = document.createElement('pre');
  element.className = className;
  element.textContent = plain(text);
  return element;
}

function picture(mime, data, alt) {
  const image = new Image();
  image.src = `data:${mime};base64,${joined(data).trim()}`;
  image.alt = alt;
  return image;
}

async function widget(manager, data, element) {
  try {
    element.view = await manager.show(await manager.get_model(data[VIEW_MIME].model_id), element);
  } catch (error) {
    console.error(error);
    element.append(pre(joined(data['text/plain'] ?? error), 'live-plain'));
  }
}

export async function renderOutput(manager, output) {
  const element = document.createElement('div');
  element.className = 'output live-output';
  if (output.output_type === 'stream') {
    element.append(pre(joined(output.text), `live-stream live-${output.name}`));
  } else if (output.output_type === 'error') {
    element.setAttribute('role', 'alert');
    element.append(pre(joined(output.traceback?.length ? output.traceback : `${output.ename}: ${output.evalue}`), 'live-error'));
  } else {
    const data = output.data;
    const mime = BEST_FIRST.find(name => name in data);
    if (mime === VIEW_MIME) await widget(manager, data, element);
    else if (mime === 'text/html' || mime === 'image/svg+xml') element.innerHTML = joined(data[mime]);
    else if (mime?.startsWith('image/')) element.append(picture(mime, data[mime], joined(data['text/plain'] ?? '')));
    else if (mime) element.append(pre(joined(data[mime]), 'live-plain'));
  }
  return element;
}

/** Put `elements` in place of what `host` shows; a view that goes must stop listening (two Play views stop each other). */
export function replaceOutputs(host, elements) {
  for (const old of host.children) if (!elements.includes(old)) old.view?.remove();
  host.replaceChildren(...elements);
  window.dispatchEvent(new Event('resize'));
}
