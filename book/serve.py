"""Serves a built book on this machine only: ``python book/serve.py DIR PORT``."""

import functools
import http.server
import sys


class Handler(http.server.SimpleHTTPRequestHandler):
    # Do not depend on this machine's table of types: a browser refuses modules and streams of another type.
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".svg": "image/svg+xml",
    }

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
