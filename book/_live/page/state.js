// What a widget shows, in few words: the settings of its controls by name, read from the models and put into them.
//
// A control takes part by its class: km-choice-KEY (one of several, by label), km-break (on or off), km-scrub (a step,
// counted from 1) and km-text-KEY (a text, only if the reader wrote it, or Python says by the class km-own that it is the
// reader's). The widget is the box with the class km-stepper.

const classes = model => model.get('_dom_classes') ?? [];
const keyOf = (model, prefix) => classes(model).find(name => name.startsWith(prefix))?.slice(prefix.length);

const named = model => model.get('description').toLowerCase().replace(/[^a-z0-9]+/g, '-');

function* below(model) {
  yield model;
  for (const child of model.get('children') ?? []) yield* below(child);
}

/** The widgets among `roots` and below them, in the order of the page. */
export function steppers(roots) {
  return roots.flatMap(root => [...below(root)].filter(model => classes(model).includes('km-stepper')));
}

/** The controls of one widget, as [{name, kind, model}], in the order in which they have to be set. */
export function controls(stepper) {
  const found = { choice: [], break: [], text: [], step: [] };
  for (const model of below(stepper)) {
    const choice = keyOf(model, 'km-choice-');
    const text = keyOf(model, 'km-text-');
    if (choice) found.choice.push({ name: choice, kind: 'choice', model });
    else if (classes(model).includes('km-switch')) found.choice.push({ name: named(model), kind: 'switch', model });
    else if (text) found.text.push({ name: text, kind: 'text', model });
    else if (classes(model).includes('km-break')) found.break.push({ name: 'break', kind: 'break', model });
    else if (classes(model).includes('km-scrub')) found.step.push({ name: 's', kind: 'step', model });
  }
  return [...found.choice, ...found.break, ...found.text, ...found.step];
}

/** What one control says now; undefined where there is nothing to say. `written`: the texts that the reader wrote. */
function said({ kind, model }, written) {
  if (kind === 'choice') return model.get('_options_labels')[model.get('index')];
  if (kind === 'break') return model.get('value') ? '1' : undefined;
  if (kind === 'switch') return model.get('value') ? '1' : '0';
  if (kind === 'text') return written.has(model) || classes(model).includes('km-own') ? model.get('value') : undefined;
  return String(model.get('value'));
}

/** [[name, value]] of everything that the widget's picture depends on. */
export function read(stepper, written = new Set()) {
  return controls(stepper).map(control => [control.name, said(control, written)]).filter(([, value]) => value !== undefined);
}

/** Whether the control could take the value. */
function put({ kind, model }, value) {
  if (kind === 'choice') {
    const index = model.get('_options_labels').indexOf(value);
    if (index < 0) return false;
    model.set('index', index);
  } else if (kind === 'break' || kind === 'switch') model.set('value', value === '1');
  else if (kind === 'text') model.set('value', value);
  else {
    const step = Number(value);
    if (!Number.isInteger(step)) return false;
    model.set('value', Math.min(Math.max(step, model.get('min')), model.get('max')));
  }
  model.save_changes();
  return true;
}

/**
 * Sets what `wanted` (a Map) names, one after the other; `settled` resolves when Python has answered. Returns the names that
 * this widget does not have, or not with that value: then what it showed stays.
 */
export async function write(stepper, wanted, settled) {
  const refused = new Set(wanted.keys());
  for (const { name } of controls(stepper)) {
    // An answer may have put other controls in this one's place.
    const control = controls(stepper).find(one => one.name === name);
    if (!control || !wanted.has(name)) continue;
    if (put(control, wanted.get(name))) refused.delete(name);
    await settled();
  }
  if (!wanted.has('break')) {
    const control = controls(stepper).find(one => one.kind === 'break');
    if (control?.model.get('value')) { put(control, '0'); await settled(); }
  }
  return [...refused];
}
