"""The book's own little server does what hosts of static sites do."""

import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))

from serve import serve

LIVE = "_static/live/0123456789ab/worker.js"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    for name, text in {
        "404.html": "the outer site's page",
        "index.html": "outer",
        "some/where/404.html": "no such page",
        "some/where/index.html": "front",
        f"some/where/{LIVE}": "// worker",
        "some/where/book/ppr.ipynb": "{}",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    server = serve(str(tmp_path), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def get(url: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, method=method))
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.read().decode(), {k.title(): v for k, v in answer.headers.items()}


@pytest.mark.parametrize("unknown", ["some/where/nothing", "some/where/book/a/b.html", f"some/where/{LIVE}x?v=1"])
def test_an_unknown_address_gets_the_site_s_own_page_with_status_404(address: str, unknown: str) -> None:
    status, text, headers = get(address + unknown)
    assert (status, text) == (404, "no such page")
    assert headers["Content-Type"].startswith("text/html")
    assert "immutable" not in headers["Cache-Control"]
    assert get(address + unknown, "HEAD")[:2] == (404, "")


def test_the_nearest_site_answers(address: str) -> None:
    assert get(address + "elsewhere/x")[:2] == (404, "the outer site's page")
    assert get(address + "some/../../../nothing")[:2] == (404, "the outer site's page")


def test_without_a_page_of_its_own_404_is_plain(address: str, tmp_path: Path) -> None:
    (tmp_path / "404.html").unlink()
    assert get(address + "nothing")[0] == 404


def test_what_never_changes_is_kept_and_the_rest_is_asked_for_again(address: str) -> None:
    assert get(f"{address}some/where/{LIVE}")[2]["Cache-Control"] == "public, max-age=31536000, immutable"
    assert get(f"{address}some/where/")[2]["Cache-Control"] == "no-cache"


def test_a_notebook_has_its_type(address: str) -> None:
    assert get(f"{address}some/where/book/ppr.ipynb")[2]["Content-Type"] == "application/x-ipynb+json"
