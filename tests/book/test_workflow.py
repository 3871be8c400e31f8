"""The workflow that publishes the book: it parses, calls what there is, and publishes nothing that was not tested."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf8"), re.M))
OFFICIAL = re.compile(r"actions/[a-z-]+@(v\d+|[0-9a-f]{40})")


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf8"))


def steps(workflow: dict[Any, Any], job: str) -> list[dict[str, Any]]:
    return workflow["jobs"][job]["steps"]


def commands(workflow: dict[Any, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"] for step in steps(workflow, job) if "run" in step]


def test_it_calls_make_targets_that_exist(workflow: dict[Any, Any]) -> None:
    called = [target for command in commands(workflow) for target in re.findall(r"\bmake ([a-z-]+)", command)]
    assert called == ["test", "book"], "tests first"
    assert set(called) <= TARGETS


def test_its_actions_are_official_and_pinned(workflow: dict[Any, Any]) -> None:
    used = [step["uses"] for job in workflow["jobs"] for step in steps(workflow, job) if "uses" in step]
    assert [name for name in used if not OFFICIAL.fullmatch(name)] == []


def test_the_book_is_built_and_tested_for_the_address_that_pages_gives(workflow: dict[Any, Any]) -> None:
    build = steps(workflow, "build")
    source = next(step["id"] for step in build if step.get("uses", "").startswith("actions/configure-pages@"))
    urls = [step["env"]["BOOK_URL"] for step in build if "run" in step]
    assert urls == [f"${{{{ steps.{source}.outputs.base_url }}}}"] * 2


def test_what_is_published_is_the_built_book_after_its_tests(workflow: dict[Any, Any]) -> None:
    last = steps(workflow, "build")[-1]
    assert last["uses"].startswith("actions/upload-pages-artifact@")
    assert last["with"]["path"] == "_build/html"
    publish = workflow["jobs"]["publish"]
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}
    assert workflow["permissions"] == {"contents": "read"}, "nothing else may write"


def test_a_browser_that_is_missing_is_a_failure_there(workflow: dict[Any, Any]) -> None:
    assert workflow["jobs"]["build"]["env"]["CI"] == "true"
