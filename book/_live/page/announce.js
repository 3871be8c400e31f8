// What a screen reader hears of a stepper. Python redraws the figure as a whole, so what must last is kept here: one
// live region a stepper that repeats what it says, and the words for the scrubber's position.

const QUIET = '.km-playing';   // while it plays, only where it stops is worth saying

function region(stepper) {
  let found = stepper.querySelector(':scope > .km-announce');
  if (!found) {
    found = document.createElement('div');
    found.className = 'km-announce km-vh';
    found.setAttribute('aria-live', 'polite');
    stepper.append(found);
  }
  return found;
}

// A step's sentence, a comparison's verdict, a board's answer, a failure; and how the run ended, where it shows.
const SAID = ['.km-error', '.km-say, .km-found, .km-answer', '.km-verdict'];

function announce(stepper) {
  const parts = SAID.map(selector => stepper.querySelector(selector)?.textContent ?? '');
  const sentence = parts.join(' ').replace(/\s+/g, ' ').trim();
  const handle = stepper.querySelector('.km-scrub .noUi-handle');
  const words = [...stepper.querySelectorAll('.km-figure svg[role=img]')].find(svg => svg.getClientRects().length);
  if (handle && words) handle.setAttribute('aria-valuetext', words.getAttribute('aria-label'));
  if (handle) handle.setAttribute('aria-label', 'Step');
  const said = region(stepper);
  if (!stepper.querySelector(QUIET) && said.textContent !== sentence) said.textContent = sentence;
}

export function installAnnouncer() {
  const due = new Set();
  const look = changes => {
    for (const { target } of changes) {
      const stepper = (target.nodeType === Node.ELEMENT_NODE ? target : target.parentElement)?.closest('.km-stepper');
      if (!stepper || target.closest?.('.km-announce') || due.has(stepper)) continue;
      due.add(stepper);
      requestAnimationFrame(() => { due.delete(stepper); announce(stepper); });
    }
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true });
}
