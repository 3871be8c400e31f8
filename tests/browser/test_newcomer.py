"""A newcomer's way: from the first page to a widget, to its page's notebook, to a run on their own machine.

The environment is new and has the site's own wheel and Jupyter, no more; the versions are those of constraints.txt.
It needs a package index, as the set-up does: without one this test fails.
"""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from bookpage import ROOT, Site, open_page
from playwright.sync_api import Locator, Page, expect

WIDGET = "application/vnd.jupyter.widget-view+json"


def download(page: Page, link: Locator, folder: Path) -> Path:
    with page.expect_download() as waiting:
        link.click()
    target = folder / waiting.value.suggested_filename
    waiting.value.save_as(target)
    return target


def run(*command: str | Path, cwd: Path) -> str:
    """What the command prints. The book's own Python path and environment must not leak in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "JUPYTER"))}
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(folder: Path, wheel: Path) -> Path:
    """The scripts' folder of a new environment with the wheel and what runs notebooks."""
    run(sys.executable, "-m", "venv", "env", cwd=folder)
    scripts = folder / "env" / "bin"
    pins = ("-c", ROOT / "constraints.txt")
    run(
        scripts / "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        *pins,
        wheel,
        "nbconvert",
        "ipykernel",
        cwd=folder,
    )
    return scripts


def test_from_the_first_page_to_a_notebook_that_runs(page: Page, site: Site, tmp_path: Path) -> None:
    open_page(page, site, "book/intro")
    wheel = download(page, page.locator("article a[href$='.whl']"), tmp_path)
    page.goto(site.address + "/")
    page.get_by_role("link", name="The first widget").click()
    page.wait_for_selector("html[data-widgets=drawn]")
    expect(page.locator(".live-static .km-stepper").first).to_be_visible()
    saved = download(page, page.get_by_role("link", name="Download as a notebook"), tmp_path)

    scripts = environment(tmp_path, wheel)
    where = run(scripts / "python", "-c", "import kvmmodel; print(kvmmodel.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path)), "the wheel, not this checkout"
    run(scripts / "jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace", saved, cwd=tmp_path)

    done = nbformat.read(saved, as_version=4)
    cells = [cell for cell in done.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert [cell.source for cell in cells if cell.execution_count is None] == []
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    views = [output.data[WIDGET]["model_id"] for output in outputs if WIDGET in output.get("data", {})]
    assert views, "the widget's view"
    state = done.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert "km-stepper" in state[views[0]]["state"]["_dom_classes"]
