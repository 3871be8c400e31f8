// Before the page is live: draws the widgets in the state that they had when the book was built.
import { Manager } from '../widgets/manager.js';
import { VIEW_MIME } from '../widgets/render.js';

const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';

/** Resolves to {manager, roots}; roots maps a cell's box to its top models, in the order of its outputs. */
export async function drawStatic() {
  const manager = new Manager();
  const roots = new Map();
  const state = document.querySelector(STATE);
  if (!state) return { manager, roots };
  await manager.set_state(JSON.parse(state.textContent));
  for (const tag of document.querySelectorAll(`script[type="${VIEW_MIME}"]`)) {
    const { model_id } = JSON.parse(tag.textContent);
    if (!manager.has_model(model_id)) continue;
    const model = await manager.get_model(model_id);
    const host = document.createElement('div');
    host.className = 'live-static';
    tag.before(host);
    await manager.show(model, host);
    const box = tag.closest('.cell');
    roots.set(box, [...(roots.get(box) ?? []), model]);
  }
  return { manager, roots };
}
