"""The built files: the live page's assets, and the stylesheet that pages and widgets share."""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[3]
STATIC = ROOT / "build" / "static"  # what `make live` builds
STYLE = ROOT / "kvmmodel" / "widgets" / "km.css"


def live_folder() -> str:
    """Where the live assets are below ``_static``. The folder's name is a hash of what is in it."""
    built = list((STATIC / "live").glob("*/files.json"))
    if len(built) != 1:
        raise ExtensionError(f"{len(built)} sets of live assets in {STATIC}, one expected: run `make live` first.")
    return built[0].parent.relative_to(STATIC).as_posix()


def add_static_paths(app: Sphinx, config: Config) -> None:
    live_folder()  # fail now, not after the pages ran
    config.html_static_path += [str(STATIC), str(STYLE)]
