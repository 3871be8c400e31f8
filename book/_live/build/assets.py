"""Builds everything that a live page loads, into build/static/live/HASH/. The hash makes the files cacheable for ever.

Run by ``make live``, in the environment that the book is built in: it takes the Python packages from there.
"""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LIVE = ROOT / "book" / "_live"
PYODIDE = ROOT / "node_modules" / "pyodide"
OUT = ROOT / "build" / "static" / "live"

PYODIDE_FILES = ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"]
PACKAGES = ["ipywidgets", "traitlets", "comm"]  # pure Python; all that widgets need with our stand-in for IPython
SKIPPED = shutil.ignore_patterns("__pycache__", "tests", "*.pyi", "py.typed")


def say(text: str) -> None:
    print(f"  live: {text}", flush=True)


def collect_library(target: Path) -> None:
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            sys.exit(f"The package {name} is not installed in this environment; run `make live`.")
        shutil.copytree(spec.submodule_search_locations[0], target / name, ignore=SKIPPED)
    shutil.copytree(ROOT / "kvmmodel", target / "kvmmodel", ignore=SKIPPED)
    shutil.copytree(LIVE / "py", target, ignore=SKIPPED, dirs_exist_ok=True)


def node(script: str, *args: Path) -> None:
    done = subprocess.run(["node", LIVE / "build" / script, *args], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"{script} failed; see the message above.")


def digest(folder: Path) -> str:
    """Of all files but the snapshot, which differs from build to build although it holds the same."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "snapshot.bin.gz"):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:12]


def build(folder: Path, library: Path) -> None:
    say("bundling the page's script")
    node("bundle.mjs", folder)
    shutil.copy(LIVE / "worker.js", folder)
    (folder / "pyodide").mkdir()
    for name in PYODIDE_FILES:
        shutil.copy(PYODIDE / name, folder / "pyodide")
    say("compiling Python for the browser and taking the memory snapshot (some 10 s)")
    collect_library(library)
    node("python.mjs", PYODIDE, library, folder)
    # The page looks at this list only when something did not load, to name the file. The snapshot may be missing.
    files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    files.pop("snapshot.bin.gz")
    (folder / "files.json").write_text(json.dumps(files, indent=1))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, library = Path(scratch, "out"), Path(scratch, "lib")
        folder.mkdir()
        build(folder, library)
        shutil.rmtree(OUT, ignore_errors=True)
        target = OUT / digest(folder)
        shutil.copytree(folder, target)
    size = sum(p.stat().st_size for p in target.rglob("*") if p.is_file())
    say(f"{target.relative_to(ROOT)}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
