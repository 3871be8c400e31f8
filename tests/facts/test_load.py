"""Facts are read from a zip file, too: that is how the book's pages have the package."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import kvmmodel
from kvmmodel.facts import files
from kvmmodel.facts.releases import changes

PACKAGE = Path(kvmmodel.__file__).parent


def test_the_files_of_a_folder_are_named_in_order():
    assert files("changes") == tuple(sorted(f"changes/{p.stem}" for p in (PACKAGE / "facts/changes").glob("*.toml")))


def test_from_a_zip_file(tmp_path):
    archive = tmp_path / "kvmmodel.zip"
    with zipfile.ZipFile(archive, "w") as into:
        for path in PACKAGE.rglob("*"):
            if path.suffix in (".py", ".toml"):
                into.write(path, path.relative_to(PACKAGE.parent))
    ask = "import kvmmodel; from kvmmodel.facts.releases import changes; print(kvmmodel.__file__, len(changes()))"
    made = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(archive)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert made.stdout.split() == [str(archive / "kvmmodel/__init__.py"), str(len(changes()))]
