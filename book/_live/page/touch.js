// Using a static widget is a wish to use it: it starts Python.

const USED = 'button, input, select, textarea, .noUi-target, [role=radio]';
const KEYS = new Set(['Enter', ' ', 'ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'Home', 'End', 'PageUp', 'PageDown', 'b']);

export function onTouch(start) {
  const inStatic = event => event.target.closest?.('.live-static');
  // A finger that scrolls also goes down somewhere, so for it only a completed tap counts.
  document.addEventListener('pointerdown', event => {
    if (event.pointerType !== 'touch' && inStatic(event) && event.target.closest(USED)) start();
  }, true);
  document.addEventListener('click', event => { if (inStatic(event)) start(); }, true);
  document.addEventListener('input', event => { if (inStatic(event)) start(); }, true);   // a text, pasted or typed
  document.addEventListener('keydown', event => {
    if (inStatic(event) && KEYS.has(event.key) && !event.ctrlKey && !event.altKey && !event.metaKey) start();
  }, true);
}
