"""functions.toml is complete for what was recorded, and well formed."""

import re
from pathlib import Path

import pytest

from kvmmodel.explain import find, read
from kvmmodel.explain.normalise import normalise
from kvmmodel.explain.text import Graph, Stack
from kvmmodel.facts.functions import FUNCTIONS, MODULES

DATA = Path(__file__).parent.parent / "evidence" / "data"
RECORDINGS = sorted(path.name for path in DATA.iterdir() if (path / "00-system.txt").is_file())


def test_rows_are_well_formed() -> None:
    for name, function in FUNCTIONS.items():
        assert function.module in MODULES
        assert re.fullmatch(r"[\w/.-]+\.[chS]", function.file), name
        assert function.does.endswith((".", "?")), name
        assert len(function.does) < 130, name
        for since, other in function.also:
            assert re.fullmatch(r"\d+\.\d+", since), name
            assert other in FUNCTIONS, f"{name}: another name has its own row"


@pytest.mark.parametrize("name", RECORDINGS)
def test_what_was_recorded_is_there_with_module_and_release(name: str) -> None:
    text, kernel = read(DATA / name)
    for block in find(text):
        if isinstance(block, Stack):
            for frame in block.frames:
                for part in normalise([frame]):
                    function = FUNCTIONS[part.name]
                    assert kernel in function.seen
                    assert frame.module in (None, function.module)
        elif isinstance(block, Graph):
            pending = list(block.roots)
            while pending:
                call = pending.pop()
                assert kernel in FUNCTIONS[call.name].graph
                assert call.module in (None, FUNCTIONS[call.name].module)
                pending.extend(call.children)
