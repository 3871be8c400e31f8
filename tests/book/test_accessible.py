"""The page's HTML for readers who hear or type it."""

from kvmbook.accessible import mend


def test_a_table_s_empty_head_is_no_head() -> None:
    row = '<tr><th class="head"><p>mode</p></th>\n<th class="head"></th>\n<th class="head text-right"><p></p></th></tr>'
    assert mend(row) == '<tr><th class="head"><p>mode</p></th>\n<td></td>\n<td></td></tr>'


def test_folded_code_is_named_by_its_own_words() -> None:
    assert mend('<summary aria-label="Toggle hidden content">\n<p>Show</p>') == "<summary>\n<p>Show</p>"


def test_the_entries_of_the_bibliography_are_items_of_its_list() -> None:
    assert mend('<div role="doc-biblioentry" id="id1">') == '<div role="listitem" id="id1">'


def test_the_parameters_of_a_call_are_lines_of_it() -> None:
    opened = '<span class="sig-paren">(</span>'
    closed = '<span class="sig-paren">)'
    call = f"{opened}\n\n<dl>\n<dd><em>a</em>,</dd>\n<dd><em>b</em>,</dd>\n</dl>\n\n{closed}"
    lines = '<span class="km-param"><em>a</em>,</span>\n<span class="km-param"><em>b</em>,</span>'
    assert mend(call) == f"{opened}{lines}{closed}"
    assert mend("<dl>\n<dd>x</dd>\n</dl>") == "<dl>\n<dd>x</dd>\n</dl>"
