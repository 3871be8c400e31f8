"""The built files: the live page's assets, the wheel, and the stylesheet that pages and widgets share."""

import gzip
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[3]
STATIC = ROOT / "build" / "static"  # what `make live` builds
DIST = ROOT / "dist"  # what `make wheel` builds
STYLE = ROOT / "kvmmodel" / "widgets" / "km.css"
OWN = ROOT / "book" / "_static"

# A page has these of the live folder from the start; the list of files is read only if something did not load.
NOT_LATER = {"live.js", "live.css", "files.json"}

log = logging.getLogger(__name__)


def live_folder() -> str:
    """Where the live assets are below ``_static``. The folder's name is a hash of what is in it."""
    built = list((STATIC / "live").glob("*/files.json"))
    if len(built) != 1:
        raise ExtensionError(f"{len(built)} sets of live assets in {STATIC}, one expected: run `make live` first.")
    return built[0].parent.relative_to(STATIC).as_posix()


def wheel() -> Path | None:
    """The built package, if there is one."""
    return max(DIST.glob("kvmmodel-*.whl"), key=lambda path: path.stat().st_mtime, default=None)


def loaded_to_go_live() -> list[Path]:
    """The files that a page fetches when it goes live."""
    folder = STATIC / live_folder()
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in NOT_LATER]


@cache
def sizes_to_go_live() -> tuple[int, int]:
    """What going live fetches, in bytes: as the files are, and with each one compressed by gzip."""
    bodies = [path.read_bytes() for path in loaded_to_go_live()]
    return sum(map(len, bodies)), sum(min(len(body), len(gzip.compress(body, 9))) for body in bodies)


def going_live() -> str:
    """The same in words."""
    raw, packed = sizes_to_go_live()
    return f"{packed / 1e6:.0f} MB ({raw / 1e6:.0f} MB uncompressed)"


def add_static_paths(app: Sphinx, config: Config) -> None:
    live_folder()  # fail now, not after the pages ran
    config.html_static_path += [str(STATIC), str(STYLE), str(OWN)]
    if built := wheel():
        config.html_static_path.append(str(built))
    else:
        log.warning("No wheel in %s, so the site does not offer one: run `make wheel` first.", DIST)
