// How the search ranks what it found: Sphinx's own numbers, and a page whose title has all the words comes first.
var Scorer = {   // var: Sphinx declares it again
  score: ([, title, anchor, , score]) => {
    const words = (new URLSearchParams(location.search).get('q') ?? '').toLowerCase().split(/\s+/).filter(Boolean);
    return !anchor && words.every(word => title.toLowerCase().includes(word)) ? score + 10 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
