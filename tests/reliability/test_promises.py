"""What docs/reliability.md promises names tests that exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TOLD = (TESTS.parent / "docs" / "reliability.md").read_text("utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)?(?:::(test_\w+))?`", TOLD)
    file, missing = "", []
    for path, function in named:
        file = path or file  # `::name` goes on with the file before
        found = {
            node.name for node in ast.parse((TESTS / file).read_text("utf-8")).body if isinstance(node, ast.FunctionDef)
        }
        if function and function not in found:
            missing.append(f"{file}::{function}")
    assert len(named) > 50
    assert not missing
