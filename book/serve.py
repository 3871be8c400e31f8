"""Serves a built book on this machine only: ``python book/serve.py DIR PORT``.

As hosts of static sites do: 404.html for what is not there, and long life in the reader's cache for what never changes.
Not supported: compression, and ranges of a file.
"""

import contextlib
import functools
import http.server
import re
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

# The folder's name is a hash of what is in it.
UNCHANGING = re.compile(r"/_static/live/[0-9a-f]{12}/")
FOR_EVER = "public, max-age=31536000, immutable"
ASK_FIRST = "no-cache"  # the browser keeps it, and asks whether it is still so


class Handler(http.server.SimpleHTTPRequestHandler):
    # Do not depend on this machine's table of types: a browser refuses modules and streams of another type.
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".svg": "image/svg+xml",
        ".ipynb": "application/x-ipynb+json",
        ".whl": "application/zip",
    }

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(code, message)
        unchanging = code in (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED) and UNCHANGING.search(self.path)
        self.send_header("Cache-Control", FOR_EVER if unchanging else ASK_FIRST)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        page = self.not_found_page() if code == HTTPStatus.NOT_FOUND else None
        if page is None:
            super().send_error(code, message, explain)
            return
        body = page.read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the reader has gone on
                self.wfile.write(body)

    def not_found_page(self) -> Path | None:
        """The 404.html of the site that the address is in: of the nearest folder above it that has one."""
        folder = Path(self.directory)
        found = [folder / "404.html"]
        for part in unquote(urlsplit(self.path).path).split("/"):
            if part in ("", ".", ".."):
                continue
            folder /= part
            found.append(folder / "404.html")
        return next((page for page in reversed(found) if page.is_file()), None)

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(directory: str, port: int) -> http.server.ThreadingHTTPServer:
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=directory))


def main() -> None:
    directory, port = sys.argv[1], int(sys.argv[2])
    try:
        server = serve(directory, port)
    except OSError as error:
        sys.exit(f"Port {port} cannot be used ({error.strerror}); try: make serve PORT={port + 1}")
    print(f"==> The book is at http://127.0.0.1:{server.server_port}/ (Ctrl+C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
