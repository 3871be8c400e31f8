"""The code cells of a page: their source for the browser, and a mark in the page where each one is."""

from pathlib import Path

from docutils import nodes
from myst_nb.core.read import read_myst_markdown_notebook
from nbformat import NotebookNode
from sphinx.application import Sphinx


def notebook(app: Sphinx, docname: str) -> NotebookNode:
    """A page as MyST-NB reads it, without front matter."""
    text = Path(app.env.doc2path(docname)).read_text(encoding="utf8")
    return read_myst_markdown_notebook(text, config=app.env.myst_config)


def code_cells(page: NotebookNode) -> list[dict]:
    """Index in the notebook, source, and whether the author expects an exception. A cell tagged no-live is left out."""
    found = []
    for index, cell in enumerate(page.cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and "no-live" not in tags:
            found.append({"index": index, "source": cell.source, "may_fail": "raises-exception" in tags})
    return found


def mark(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in doctree.findall(nodes.container):
        if node.get("nb_element") == "cell_code":
            node["classes"].append(f"nbcell-{node['cell_index']}")
