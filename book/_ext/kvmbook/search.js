// The lines that the search shows of a page: taken from its text, as the index is, not from what stands around it.
addEventListener('DOMContentLoaded', () => {
  const plain = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, 'text/html');
    const around = '#jb-print-docs-body, noscript, .live-bar, .cell details, .output.text_html, .prev-next-footer';
    for (const element of page.querySelectorAll(around)) element.remove();
    return plain(page.documentElement.outerHTML, anchor);
  };
});
