"""Each page as a notebook beside the page: plain Markdown, and the page's cells as they are.

It runs against the built wheel alone. Its first cell says where it comes from and what it needs, its second gives the
outputs their look. It has no outputs: to run it is what it is for. A page without code becomes one of text.
"""

import posixpath
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from kvmbook import assets, site
from kvmbook.cells import notebook
from kvmbook.plain import markdown

HIDDEN_SOURCE = {"hide-input", "remove-input", "hide-cell"}
HIDDEN_OUTPUT = {"hide-output", "remove-output", "hide-cell"}
STYLE = "from kvmmodel.widgets.page import style\n\nstyle()"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class BookLinks:
    """Where a page's links lead from its notebook: to the published site, else to the notebook beside, else nowhere."""

    def __init__(self, env: BuildEnvironment, docname: str) -> None:
        self.env, self.docname = env, docname

    def resolve(self, target: str) -> tuple[str, str]:
        if urlsplit(target).scheme:
            return "", target
        path, part = urldefrag(target)
        docname = self._docname(path)
        if docname not in self.env.all_docs:
            return "", urljoin(site.page(self.docname), target) if site.is_published() and path else ""
        title = self._title(docname, part)
        if site.is_published():
            return title, site.page(docname) + (f"#{part}" if part else "")
        neighbour = f"{site.neighbour(self.docname, docname)}.ipynb"
        return title, neighbour if docname != self.docname else ""

    def _docname(self, path: str) -> str:
        if not path:
            return self.docname
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(self.docname), path))
        return whole.removesuffix(".md").removesuffix(".html")

    def _title(self, docname: str, part: str) -> str:
        for slug, found in self.env.metadata.get(docname, {}).get("myst_slugs", {}).items():
            if slug == part:
                return str(found[2])
        label = self.env.domaindata["std"]["labels"].get(part)
        return label[2] if label else in_markdown(self.env.titles[docname])


def in_markdown(title: nodes.Element) -> str:
    """A title whose function names stay code."""
    return "".join(f"`{n.astext()}`" if isinstance(n, nodes.literal) else n.astext() for n in title.children)


def convert(page: nbformat.NotebookNode, note: str, links: BookLinks, values: dict[str, str]) -> nbformat.NotebookNode:
    """The notebook that readers download. ``note`` is the Markdown of its first cell."""
    cells = [nbformat.v4.new_markdown_cell(note)]
    if any(cell.cell_type == "code" for cell in page.cells):
        cells.append(_code(STYLE, ["hide-input", "no-live"]))
    for cell in page.cells:
        if cell.cell_type == "code":
            cells.append(_code(cell.source, list(cell.metadata.get("tags", []))))
        elif text := markdown(cell.source, links, values):
            cells.append(nbformat.v4.new_markdown_cell(text))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # the same input gives the same file
    made = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(made)
    return made


def _code(source: str, tags: list[str]) -> nbformat.NotebookNode:
    metadata: dict = {"tags": tags} if tags else {}
    hidden = {
        name: True
        for name, which in (("source_hidden", HIDDEN_SOURCE), ("outputs_hidden", HIDDEN_OUTPUT))
        if which & set(tags)
    }
    if hidden:
        metadata["jupyter"] = hidden
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def note(title: str, docname: str) -> str:
    """What the notebook is, from which page and version, and what it needs."""
    page = f"[{title}]({site.page(docname)})" if site.is_published() else f"“{title}”"
    return (
        f"This is the page {page} of a book on how KVM on AMD delivers interrupts, kvmmodel {version('kvmmodel')}, "
        f"as a notebook. It needs Jupyter and the package{_offered()}: `pip install {_package()} jupyterlab`."
    )


def _offered() -> str:
    return "" if site.is_published() else ", a file that the book’s first page offers"


def _package() -> str:
    built = assets.wheel()
    if not built:
        return "kvmmodel"
    return site.file(f"_static/{built.name}") if site.is_published() else built.name


def values(app: Sphinx) -> dict[str, str]:
    """What the pages' ``{{ name }}`` stand for in a notebook."""
    return {**app.config.myst_substitutions, "wheel": f"`{_package()}`"}


def write_all(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    for docname in sorted(app.env.all_docs):
        title = in_markdown(app.env.titles[docname])
        made = convert(notebook(app, docname), note(title, docname), BookLinks(app.env, docname), values(app))
        target = Path(app.outdir, f"{docname}.ipynb")
        target.write_text(nbformat.writes(made) + "\n", encoding="utf8")
