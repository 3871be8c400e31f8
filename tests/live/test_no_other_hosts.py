"""Nothing that is built into a page, and no lock file, names another host."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [p for p in (ROOT / "book").rglob("*") if p.suffix in {".js", ".mjs", ".py", ".css"}]
# Allowed: this machine, the SVG name space (a name, not an address), and the probe in support.js, which is no address.
FOREIGN = re.compile(r"https?://(?!127\.0\.0\.1|www\.w3\.org/2000/svg|\[)[\w.-]+")


def test_no_file_of_the_live_page_names_another_host() -> None:
    named = {path.name: FOREIGN.findall(path.read_text(encoding="utf8")) for path in SOURCES}
    assert {name: hosts for name, hosts in named.items() if hosts} == {}


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (ROOT / "package-lock.json").read_text(encoding="utf8")
