// Makes a cell's code editable once the page is live. The highlighted code itself becomes the editor.

function button(text, className, onClick) {
  const element = document.createElement('button');
  element.type = 'button';
  element.className = className;
  element.textContent = text;
  element.addEventListener('click', onClick);
  return element;
}

export class Editor {
  /** `box`: the cell's element; `run`: called when the reader wants this cell run. */
  constructor(box, number, run) {
    this.pre = box.querySelector('.cell_input pre');
    if (!this.pre) return;   // the author hid the code
    this.original = this.text();
    this.html = this.pre.innerHTML;
    this.tools = document.createElement('div');
    this.tools.className = 'live-tools';
    this.tools.hidden = true;
    this.reset = button('Undo edits', 'live-reset', () => this.restore());
    this.reset.hidden = true;
    this.tools.append(button('Run cell', 'live-run', run), this.reset, Object.assign(document.createElement('span'),
      { className: 'live-hint', textContent: 'Shift+Enter runs it' }));
    box.querySelector('.cell_input').append(this.tools);
    this.pre.setAttribute('aria-label', `Code of cell ${number}`);
    this.pre.addEventListener('input', () => { this.reset.hidden = this.text() === this.original; });
    this.pre.addEventListener('keydown', event => this.onKey(event, run));
  }

  text() { return this.pre?.innerText.replace(/\n$/, '') ?? null; }
  get source() { return this.pre && this.text() !== this.original ? this.text() : null; }

  enable(on) {
    if (!this.pre) return;
    this.tools.hidden = !on;
    if (!on) {
      this.pre.removeAttribute('contenteditable');
      return;
    }
    for (const [name, value] of [['role', 'textbox'], ['aria-multiline', 'true'], ['spellcheck', 'false'], ['autocapitalize', 'off']]) {
      this.pre.setAttribute(name, value);
    }
    this.pre.contentEditable = 'true';
    try { this.pre.contentEditable = 'plaintext-only'; } catch { /* an older browser: rich text is read as text */ }
  }

  restore() {
    this.pre.innerHTML = this.html;
    this.reset.hidden = true;
    this.pre.focus();
  }

  onKey(event, run) {
    if (event.key !== 'Enter' || this.pre.contentEditable === 'inherit') return;
    event.preventDefault();
    if (event.shiftKey) run();
    else document.execCommand('insertText', false, `\n${indent(this.pre)}`);   // the one way that keeps the browser's undo
  }
}

/** The spaces at the start of the line with the caret, and four more after a colon. */
function indent(pre) {
  const caret = getSelection().getRangeAt(0);
  const before = document.createRange();
  before.setStart(pre, 0);
  before.setEnd(caret.startContainer, caret.startOffset);
  const line = before.toString().split('\n').pop();
  return line.match(/^ */)[0] + (/:\s*$/.test(line) ? '    ' : '');
}
