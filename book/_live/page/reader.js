// What the reader did to the static widgets is kept: found by comparing, applied to the live ones by their place in the tree.

const KEYS = ['value', 'index', 'selected_index'];

/** All models below `models`, each with its path of child numbers. */
function* walk(models, path = []) {
  for (const [i, model] of models.entries()) {
    yield [[...path, i], model];
    const children = model.get('children');
    if (Array.isArray(children)) yield* walk(children, [...path, i]);
  }
}

function find(models, path) {
  const [first, ...rest] = path;
  const model = models[first];
  return rest.length && model ? find(model.get('children') ?? [], rest) : model;
}

const values = model => Object.fromEntries(KEYS.filter(key => model.has(key)).map(key => [key, JSON.stringify(model.get(key))]));

/** A slider or a player is a place in a run that choices make: it comes after them. */
const isStep = model => model.has('min') && model.has('max');

export class Reader {
  constructor({ manager, roots }) {
    this.roots = roots;
    this.before = new Map();
    this.clicks = [];
    for (const models of roots.values()) for (const [, model] of walk(models)) this.before.set(model, values(model));
    manager.unheard = (model, content) => { if (content?.event === 'click') this.clicks.push(model); };
  }

  /** Everything the reader did, as [{box, path, changes | click}], in the order in which to apply it. */
  wishes() {
    const choices = [];
    const steps = [];
    const clicks = new Map(this.clicks.map(model => [model, []]));
    for (const [box, models] of this.roots) {
      for (const [path, model] of walk(models)) {
        const was = this.before.get(model);
        const changed = was ? Object.entries(values(model)).filter(([key, value]) => was[key] !== value) : [];
        const changes = Object.fromEntries(changed.map(([key]) => [key, model.get(key)]));
        if (changed.length) (isStep(model) ? steps : choices).push({ box, path, changes });
        clicks.get(model)?.push({ box, path, click: true });
      }
    }
    return [...choices, ...steps, ...this.clicks.flatMap(model => clicks.get(model).slice(0, 1))];
  }
}

/** Apply one after the other; `settled` resolves when Python has done what a change leads to; `set` gets each changed model. */
export async function apply(wishes, rootsOf, settled, set = () => {}) {
  for (const { box, path, changes, click } of wishes) {
    const model = find(await rootsOf(box), path);
    if (!model) continue;   // the live page looks different: nothing to apply to
    if (click) model.send({ event: 'click' });
    else {
      const known = Object.fromEntries(Object.entries(changes).filter(([key]) => model.has(key)));
      model.set(known);
      model.save_changes();
      set(model);
    }
    await settled();
  }
}
