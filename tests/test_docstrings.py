"""What the documentation strings of public functions say, beyond that they exist (ruff's D1 sees to that)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("uml_cache", "data_manifests", "extract", "train", "evaluate")
_ARRAY = re.compile(r"\b(Tensor|ndarray|NDArray)\b")
# `(N, D)`, `(n + 1,)`, `(3 · A, W)`, `()`: names and numbers with operators between them, and a comma.
_TERM = r"[\w′'×…*]+(?:\(\w+\))?(?: ?[·+−×*/-] ?[\w′'×…]+)*"
_SHAPE = re.compile(rf"\({_TERM},\)|\({_TERM}(?:, ?{_TERM})+\)|\(\)|any shape")
_CALLED = ("__init__", "__call__", "__iter__", "__getitem__")


def _functions(body: list[ast.stmt], within: ast.ClassDef | None = None) -> Iterator[tuple[str, str, str]]:
    """Name, types and documentation of public functions; a class speaks for its nameless methods, too."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _functions(node.body, node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") and node.name not in _CALLED:
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        arguments += [one for one in (node.args.vararg, node.args.kwarg) if one is not None]
        types = [one.annotation for one in arguments if one.annotation is not None]
        types += [node.returns] if node.returns is not None else []
        said = ast.get_docstring(node) or ""
        if within is not None and node.name in _CALLED:
            said += ast.get_docstring(within) or ""
        name = f"{within.name}.{node.name}" if within is not None else node.name
        yield name, " ".join(map(ast.unparse, types)), said


def without_shapes(source: str) -> list[str]:
    """Public functions that take or give arrays and say no shape."""
    functions = _functions(ast.parse(source).body)
    return [name for name, types, said in functions if _ARRAY.search(types) and not _SHAPE.search(said)]


@pytest.mark.parametrize("package", PACKAGES)
def test_who_takes_or_gives_arrays_says_their_shapes(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    lacking = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in without_shapes(file.read_text(encoding="utf-8"))
    ]
    assert lacking == []


_DTYPE = re.compile(
    r"\b(bfloat16|float(16|32|64)|u?int(8|16|32|64)|bool|complex(64|128)|dtypes?)\b"
    r"|(floating|integer|numeric) type"
)
_TYPED = re.compile(r"NDArray\[np\.(float|u?int|bool)(\d+|_)\]")


def without_dtypes(source: str) -> list[str]:
    """Public functions of whose arrays no dtype is said: not by them, their class or the module's legend.

    An annotation such as `NDArray[np.float64]` says it, too, where all arrays have one.
    """
    tree = ast.parse(source)
    if _DTYPE.search(ast.get_docstring(tree) or ""):
        return []
    classes = {one.name: ast.get_docstring(one) or "" for one in tree.body if isinstance(one, ast.ClassDef)}
    functions = [
        (name, _TYPED.sub("", types), said + classes.get(name.rpartition(".")[0], ""))
        for name, types, said in _functions(tree.body)
    ]
    return [name for name, types, said in functions if _ARRAY.search(types) and not _DTYPE.search(said)]


@pytest.mark.parametrize("package", PACKAGES)
def test_who_takes_or_gives_arrays_says_their_dtypes(package: str) -> None:
    lacking = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for name in without_dtypes(file.read_text(encoding="utf-8"))
    ]
    assert lacking == []


@pytest.mark.parametrize(
    ("legend", "returns", "said", "is_silent"),
    [
        ("Rows.", "Tensor", "Rows (n, D).", True),
        ("Rows.", "Tensor", "Rows (n, D), whole numbers of 64 bits.", True),
        ("Rows.", "tuple[NDArray[np.float64], np.ndarray]", "Rows (n, D) and labels (n,).", True),
        ("Rows.", "Tensor", "Rows (n, D) float32.", False),
        ("Rows.", "Tensor", "Rows (n, D) in the stored dtype.", False),
        ("Rows. All tensors are float32.", "Tensor", "Rows (n, D).", False),
        ("Rows.", "NDArray[np.float64]", "Rows (n, D).", False),
    ],
)
def test_a_dtype_is_looked_for_in_legend_annotation_and_docstring(
    legend: str, returns: str, said: str, is_silent: bool
) -> None:
    source = f'"""{legend}"""\ndef give() -> {returns}:\n    """{said}"""\n'
    assert without_dtypes(source) == (["give"] if is_silent else [])


def test_a_class_speaks_of_dtypes_for_its_methods() -> None:
    method = '    def give(self) -> Tensor:\n        """Rows (n, D)."""\n'
    assert without_dtypes(f'class Held:\n    """Rows, float32."""\n{method}') == []
    assert without_dtypes(f'class Held:\n    """Rows."""\n{method}') == ["Held.give"]


_RAISED = ("InputError", "WorkError", "SampleError", "NotPossible", "DamagedFile", "ValueError", "IndexError")
_SAID = re.compile(r"[Rr]aise|[Rr]efuse|Error|NotPossible")


def _raised(node: ast.AST) -> Iterator[str]:
    """Names of what a function raises itself, not in functions inside it; `unknown(…)` is an `InputError`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            thrown = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            name = thrown.id if isinstance(thrown, ast.Name) else ""
            yield "InputError" if name == "unknown" else name
        yield from _raised(child)


def _public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    """Public functions, and those of public classes."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)
            else:
                yield node


def silent_on_errors(source: str) -> list[str]:
    """Public functions that raise an error for a caller and do not say so; commands print theirs."""
    found = []
    for node in _public(ast.parse(source).body):
        is_command = any("command" in ast.unparse(one) for one in node.decorator_list)
        silent = not _SAID.search(ast.get_docstring(node) or "")
        if silent and not is_command and set(_raised(node)) & set(_RAISED):
            found.append(node.name)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_who_raises_an_error_says_so(package: str) -> None:
    lacking = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for name in silent_on_errors(file.read_text(encoding="utf-8"))
    ]
    assert lacking == []


def test_an_error_is_found_where_it_is_raised() -> None:
    source = (
        'def give():\n    """All."""\n    raise unknown(\'a\', \'b\', [])\n'
        'def take():\n    """All. Raises `InputError`."""\n    raise InputError(\'no\')\n'
        'def hold():\n    """All."""\n    def _inner():\n        raise InputError(\'no\')\n'
    )
    assert silent_on_errors(source) == ["give"]


@pytest.mark.parametrize(
    ("said", "is_one"),
    [
        ("(N, D) float32", True),
        ("labels (n,)", True),
        ("offsets (n + 1,) int64", True),
        ("(3 · A, W)", True),
        ("(len(theirs),) int64", True),
        ("an array of any shape", True),
        ("the sum is a scalar ()", True),
        ("All rows (the last one, too).", False),
        ("The rows (all of them).", False),
        ("", False),
    ],
)
def test_a_shape_is_known_from_other_words_in_brackets(said: str, is_one: bool) -> None:
    source = f'def give() -> np.ndarray:\n    """{said}."""\n'
    assert without_shapes(source) == ([] if is_one else ["give"])
