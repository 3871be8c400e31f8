"""Where the published book will be: the one place that knows its address. All else in a page is a relative link.

The environment variable BOOK_URL has it. Without it the book is built for this machine, and what leaves the site (a
notebook) does not link back to it. Not supported: a site below several addresses at once; it has one canonical address.
"""

import os
import posixpath
from urllib.parse import urlsplit

HERE = "http://127.0.0.1:8000/"  # what `make serve` prints


def address() -> str:
    """The site's address, with a slash at the end. Errors: ValueError if BOOK_URL is no address."""
    url = os.environ.get("BOOK_URL", "").strip() or HERE
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"BOOK_URL is {url!r}: it must begin with http or https and have a host, and no query")
    return url.rstrip("/") + "/"


def is_published() -> bool:
    """Whether somebody said where the book will be."""
    return bool(os.environ.get("BOOK_URL", "").strip())


def path() -> str:
    """The part of the address after the host: "/" or "/some/where/"."""
    return urlsplit(address()).path


def page(docname: str) -> str:
    return f"{address()}{docname}.html"


def file(name: str) -> str:
    """The address of a file of the site."""
    return address() + name


def neighbour(docname: str, other: str) -> str:
    """The way from one page's folder to another page, without a suffix."""
    return posixpath.relpath(other, posixpath.dirname(docname) or ".")
