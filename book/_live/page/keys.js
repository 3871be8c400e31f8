// Keys for a stepper: they press its own buttons, so there is one way to step.

const BUTTON = { ArrowLeft: '.km-back', ArrowRight: '.km-fwd', Home: '.km-first', End: '.km-last', ' ': '.km-play', b: '.km-break' };
const MODES = /^[1-4]$/;   // where the widget asks for AVIC, its answers by number
const TEXT = 'input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]';

/** The selector of the button that `key` presses when the focus is on `target`, or undefined. */
export function wanted(key, target) {
  if (target.closest(TEXT)) return undefined;                              // the key is text
  if (key === ' ' && target.closest('button, [type=checkbox], a, summary')) return undefined;   // the key presses what has the focus
  if (MODES.test(key)) return `.km-choice-avic [role=radio]:nth-of-type(${key})`;
  if (key !== ' ' && key !== 'b' && target.closest('.noUi-handle, [role=radio], [role=slider]')) return undefined;  // it has these keys itself
  return BUTTON[key];
}

// The button itself, or one inside it where the widget is a box around the control.
function press(element) {
  const inner = element?.matches('button, input') ? element : element?.querySelector('button, input');
  if (!inner || inner.disabled) return false;
  inner.click();
  return true;
}

export function installKeys() {
  document.addEventListener('keydown', event => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    const stepper = event.target.closest?.('.km-stepper');
    const selector = stepper && wanted(event.key, event.target);
    if (!selector) return;
    // Where there is no button for the last step, the slider goes there.
    if (press(stepper.querySelector(selector))) event.preventDefault();
    else if (event.key === 'End' || event.key === 'Home') toEnd(stepper, event);
  });
  // The slider's own End key keeps the range that it began with, so it must not see the key.
  document.addEventListener('keydown', event => {
    if (event.key !== 'End' && event.key !== 'Home') return;
    const stepper = event.target.closest?.('.km-scrub .noUi-handle')?.closest('.km-stepper');
    if (stepper && toEnd(stepper, event)) event.stopPropagation();
  }, true);
  // A click on the picture gives the stepper the focus, so that the keys work from there.
  document.addEventListener('pointerdown', event => {
    const stepper = event.target.closest?.('.km-stepper');
    if (stepper && !stepper.hasAttribute('tabindex')) stepper.tabIndex = -1;
  }, true);
}

function toEnd(stepper, event) {
  const handle = stepper.querySelector('.km-scrub .noUi-handle');
  const slider = handle?.closest('.noUi-target')?.noUiSlider;               // none in a page that is not live yet
  if (!slider) return false;
  event.preventDefault();
  slider.set(Number(handle.getAttribute(event.key === 'End' ? 'aria-valuemax' : 'aria-valuemin')));
  return true;
}
