"""The syntax trees of all modules, with the imports inside functions; nothing is imported."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

PACKAGES = ("supernet", "search", "subnet_export")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def trees() -> dict[str, ast.Module]:
    """The tree of each module by its dotted name."""
    return {
        module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imported(tree: ast.AST) -> set[str]:
    """Dotted names a module imports: of ``from a import b`` both ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            assert node.module is not None
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def below(name: str, parents: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of ``parents`` or inside one."""
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def source_of(node: ast.expr) -> str:
    """The source text of an expression; that of dotted names, which are most, without the slow ``ast.unparse``."""
    parts, value = [], node
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    return ".".join([value.id, *reversed(parts)]) if isinstance(value, ast.Name) else ast.unparse(node)


@cache
def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(source_of(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
