"""Numbers that a paper printed, and those that were measured: both are kept by what they are of.

    [[published]]
    items = ["table17"]                             # which tables or figures
    source = "arXiv:2510.08492v1, Table 17"
    across = "dataset"                              # what the columns are: dataset, shots or variant
    columns = ["stanford_cars", "sun397"]
    rows = [ { shots = 1, method = "uml", values = [14.95, 37.25] } ]

A value that is not there is "-".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from uml_cache import InputError, unknown

ACROSS = ("dataset", "shots", "variant")
ACCURACY = "accuracy"
_ROW = ("dataset", "variant", "shots", "method", "control", "values")
_TABLE = ("items", "source", "across", "columns", "rows", "measure")


@dataclass(frozen=True, kw_only=True)
class Key:
    """What a number is of. None: not said, or the only one."""

    dataset: str | None = None
    variant: str | None = None
    shots: int | str | None = None
    method: str | None = None
    control: str | None = None
    measure: str = ACCURACY

    def at(self, across: str, value: Any) -> Key:
        """The same key with another value on one axis."""
        values: dict[str, Any] = {across: value}
        return replace(self, **values)

    def fits(self, other: Key) -> bool:
        """Whether `other` is what this asks for; what this leaves open may be anything, but for controls."""
        open_fields = ("dataset", "variant", "shots", "method")
        return (self.control, self.measure) == (other.control, other.measure) and all(
            getattr(self, name) in (None, getattr(other, name)) for name in open_fields
        )


@dataclass(frozen=True, kw_only=True)
class Number:
    """A mean and what it is the mean of; `std` is None for a single value or where nobody said it."""

    key: Key
    value: float
    std: float | None = None
    seeds: int = 0

    def to_json(self) -> dict[str, Any]:
        """The number as JSON values."""
        return {**vars(self.key), "value": self.value, "std": self.std, "seeds": self.seeds}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Number:
        """The number that `to_json` wrote."""
        rest = dict(values)
        own = {name: rest.pop(name) for name in ("value", "std", "seeds")}
        return cls(key=Key(**rest), **own)


@dataclass(frozen=True, kw_only=True)
class Published:
    """One table of a paper. Each row has a key and a value (or None) for every column."""

    items: tuple[str, ...]
    source: str
    across: str
    columns: tuple[str | int, ...]
    rows: tuple[tuple[Key, tuple[float | None, ...]], ...]
    measure: str = ACCURACY

    def numbers(self) -> Iterator[Number]:
        """Every number that there is."""
        for key, values in self.rows:
            for column, value in zip(self.columns, values, strict=True):
                if value is not None:
                    yield Number(key=key.at(self.across, column), value=value)

    def places(self) -> Iterator[tuple[str, Any]]:
        """What its columns and rows name, as pairs such as ("dataset", "mosi")."""
        yield from ((self.across, column) for column in self.columns)
        for key, _ in self.rows:
            yield from ((n, getattr(key, n)) for n in ("dataset", "variant") if getattr(key, n) is not None)


def lookup(numbers: list[Number], wanted: Key) -> Number | None:
    """The first number that a key asks for."""
    return next((number for number in numbers if wanted.fits(number.key)), None)


def read_published(tables: Any) -> tuple[Published, ...]:
    """Tables from a recipe. Raises `InputError` for unknown keys, rows of another length, no numbers."""
    if not isinstance(tables, list) or any(not isinstance(table, dict) for table in tables):
        raise InputError("published is a list of tables: [[published]]")
    return tuple(_table(table) for table in tables)


def _table(values: dict[str, Any]) -> Published:
    for key in values:
        if key not in _TABLE:
            raise unknown("key of [[published]]:", key, _TABLE)
    for key in ("items", "source", "across", "columns", "rows"):
        if key not in values:
            raise InputError(f"[[published]] lacks {key}")
    items, across = values["items"], values["across"]
    if not isinstance(items, list) or not items or any(not isinstance(item, str) for item in items):
        raise InputError(f"[[published]] items is {items!r}; it is a list of names such as table17")
    item = items[0]
    if across not in ACROSS:
        raise unknown(f"across in [[published]] {item}:", str(across), ACROSS)
    columns = tuple(values["columns"])
    measure = str(values.get("measure", ACCURACY))
    rows = []
    for row in values["rows"]:
        for key in row:
            if key not in _ROW or key == across:
                raise unknown(f"key in a row of [[published]] {item}:", key, set(_ROW) - {across})
        found = row.get("values")
        if not isinstance(found, list) or len(found) != len(columns):
            raise InputError(f"[[published]] {item}: a row has {found!r} for {len(columns)} columns")
        rest = {k: v for k, v in row.items() if k != "values"}
        rows.append((Key(**rest, measure=measure), tuple(_number(value, item) for value in found)))
    return Published(
        items=tuple(items), source=str(values["source"]), across=across, columns=columns, rows=tuple(rows),
        measure=measure,
    )  # fmt: skip


def _number(value: Any, item: str) -> float | None:
    if value == "-":
        return None
    if type(value) not in (int, float):
        raise InputError(f'[[published]] {item}: {value!r} is no number; what is not there is "-"')
    return float(value)
