// A text that the reader is still writing when the page goes live: it is taken over as it stands, and so is the cursor.

const FIELD = '.live-static textarea';
const field = () => (document.activeElement?.matches?.(FIELD) ? document.activeElement : null);

/** A field tells its widget of a text when it is left; this one is not left, so it is asked. */
export function commitTyping() { field()?.dispatchEvent(new Event('change', { bubbles: true })); }

/** Call before the static widgets go; what is returned, once the live ones are in view. */
export function keepTyping() {
  const from = field();
  const cell = from?.closest('.cell');
  if (!cell) return () => {};
  const at = [...cell.querySelectorAll(FIELD)].indexOf(from);
  const { value, selectionStart, selectionEnd } = from;
  return () => {
    const to = cell.querySelectorAll('.live-outputs textarea')[at];
    if (!to) return;
    if (to.value !== value) to.value = value;   // the last letters came after the commit; leaving the field sends them
    to.focus({ preventScroll: true });
    to.setSelectionRange(selectionStart, selectionEnd);
  };
}
