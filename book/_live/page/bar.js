// The bar under the page's title: one button that starts or stops, one line that says how things stand.

const BUTTON = { static: 'Run this page', starting: 'Stop', running: 'Stop', live: 'Stop', stopped: 'Run this page', error: 'Run this page' };

export class Bar {
  constructor(element, { start, stop }) {
    this.element = element;
    this.button = element.querySelector('button');
    this.status = element.querySelector('[role=status]');
    this.button.addEventListener('click', () => (this.active ? stop() : start()));
    this.button.hidden = this.status.hidden = false;
  }

  get state() { return this.element.dataset.state; }
  get active() { return ['starting', 'running', 'live'].includes(this.state); }

  say(state, text) {
    this.element.dataset.state = state;
    this.button.textContent = BUTTON[state];
    this.status.textContent = text;
  }

  /** This browser cannot: no button that does nothing, but the reason. */
  unable(reasons) {
    this.element.dataset.state = 'unable';
    this.button.hidden = true;
    this.status.textContent = `This page cannot run here: it needs ${reasons.join(' and ')}. Everything else on it can be read.`;
  }
}
