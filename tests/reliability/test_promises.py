"""The tests that docs/reliability.md names exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = (TESTS.parent / "docs" / "reliability.md").read_text("utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)?(?:::(test_\w+))?`", DOCUMENT)
    file, missing = "", []
    for path, function in named:
        file = path or file  # `::name` is in the file named before
        functions = {
            node.name for node in ast.parse((TESTS / file).read_text("utf-8")).body if isinstance(node, ast.FunctionDef)
        }
        if function and function not in functions:
            missing.append(f"{file}::{function}")
    assert len(named) > 50
    assert not missing
