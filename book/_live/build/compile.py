"""Runs in Pyodide: /lib-src, byte-compiled, as /pylib.zip. The same input gives the same bytes."""

import py_compile
import zipfile
from pathlib import Path

SOURCE = Path("/lib-src")
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH  # no time stamps, and nothing to check against in the browser

with zipfile.ZipFile("/pylib.zip", "w") as archive:
    for path in sorted(p for p in SOURCE.rglob("*") if p.is_file()):
        name = path.relative_to(SOURCE).as_posix()
        if path.suffix == ".py":
            path = Path(py_compile.compile(str(path), "/one.pyc", name, doraise=True, invalidation_mode=UNCHECKED))
            name += "c"
        info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, path.read_bytes(), compresslevel=9)
