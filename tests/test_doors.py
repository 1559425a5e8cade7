"""Rooms with marked doors: what a package offers is what its `__init__` names, and imports go one way.

All imports are walked, those in function bodies too; what only type checkers see makes no circle.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

# From the bottom up: a package imports from those before it.
PACKAGES = ("uml_cache", "uml_manifests", "uml_extract", "uml_train", "uml_evaluate", "uml")


class Import(NamedTuple):
    """`module` imports `name` of `target`, or `target` itself, in `line`."""

    module: str
    line: int
    target: str
    name: str | None
    typing_only: bool


def _files() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        root = Path(str(import_module(package).__file__)).parent
        for file in root.rglob("*.py"):
            parts = file.relative_to(root.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def _imports(module: str, text: str) -> Iterator[Import]:
    tree = ast.parse(text)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        where = (module, getattr(node, "lineno", 0))
        if isinstance(node, ast.Import):
            yield from (Import(*where, alias.name, None, id(node) in guarded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: a relative import"
            for alias in node.names:
                yield Import(*where, str(node.module), alias.name, id(node) in guarded)


FILES = _files()
IMPORTS = [
    found
    for module, file in FILES.items()
    for found in _imports(module, file.read_text(encoding="utf-8"))
    if found.target.partition(".")[0] in PACKAGES
]


def _top(module: str) -> str:
    return module.partition(".")[0]


def _said(found: Import) -> str:
    return f"{found.module}, line {found.line}: {found.target} {found.name or ''}".rstrip()


def test_other_packages_are_entered_by_their_doors() -> None:
    offered = {package: set(import_module(package).__all__) for package in PACKAGES}
    inner = [
        _said(found)
        for found in IMPORTS
        if _top(found.module) != _top(found.target)
        and (
            found.target not in PACKAGES
            or (found.name is not None and found.name not in offered[found.target])
        )
    ]
    assert not inner, "\n".join(inner)


def test_imports_go_down() -> None:
    upward = [
        _said(found)
        for found in IMPORTS
        if PACKAGES.index(_top(found.target)) > PACKAGES.index(_top(found.module))
    ]
    assert not upward, "\n".join(upward)


def test_doors_name_only_what_they_have() -> None:
    for package in PACKAGES:
        module = import_module(package)
        missing = [name for name in module.__all__ if not hasattr(module, name)]
        assert not missing, (package, missing)


def _circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Modules in circles (or between two), each with those of them that it imports: what is left of a graph
    when whatever imports nothing that is left, or is imported by nothing that is left, is taken away."""
    left = {module: set(targets) for module, targets in edges.items()}
    while True:
        imported = set().union(*left.values())
        keep = {module for module, targets in left.items() if targets & left.keys() and module in imported}
        if keep == left.keys():
            return sorted([module, *sorted(left[module])] for module in left)
        left = {module: left[module] & keep for module in keep}


def _edges(imports: list[Import]) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {module: set() for module in FILES}
    for found in imports:
        if not found.typing_only and _top(found.module) == _top(found.target):
            submodule = f"{found.target}.{found.name}"
            edges[found.module].add(submodule if submodule in FILES else found.target)
    return edges


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_goes_in_a_circle(package: str) -> None:
    circles = _circles(_edges([found for found in IMPORTS if _top(found.module) == package]))
    assert not circles, "\n".join(" → ".join(circle) for circle in circles)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_means_one_thing(package: str) -> None:
    """No two public classes, and no two modules, of one package are called the same."""
    named: dict[str, list[str]] = {}
    for module, file in FILES.items():
        if _top(module) != package or file.name == "__init__.py":
            continue
        named.setdefault(f"module {module.rpartition('.')[2]}", []).append(module)
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named.setdefault(f"class {node.name}", []).append(module)
    assert not {name: where for name, where in named.items() if len(where) > 1}


def test_the_page_on_architecture_shows_the_tree() -> None:
    """Every folder of the packages stands in its tree, and every file that it names is there."""
    root = Path(__file__).parents[1]
    page = (root / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    tree = page.partition("## The tree")[2].partition("## ")[0]
    folders = {file.parent.name for file in FILES.values() if file.name == "__init__.py"}
    assert not [folder for folder in sorted(folders) if f"{folder}/" not in tree]
    named = re.findall(r"`((?:uml_cache|data_manifests|extract|train|evaluate)/[\w/.]+)`", page)
    assert len(named) > 30
    assert not [path for path in named if not (root / path).exists()]


def test_these_tests_can_fail() -> None:
    text = "def f():\n    from uml_train.run import Run\n"
    assert list(_imports("uml_cache.x", text)) == [Import("uml_cache.x", 2, "uml_train.run", "Run", False)]
    assert _circles({"a": {"b"}, "b": {"a", "d"}, "c": {"a"}, "d": set()}) == [["a", "b"], ["b", "a"]]
