"""Reading and writing `samples.csv`: one row a sample, every mistake named with its file and line."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from uml_cache import SPLIT_CODES, InputError, as_splits, clean_name
from uml_manifests.manifest.manifest import NO_SPLIT, first_repeat

COLUMNS = ("id", "path", "text", "label", "split", "group")
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_BLOCK = 256  # below the collector's threshold of 700: more live row lists double the time
_LONGEST_FIELD = 2**31 - 1  # csv's default of 128 KiB is shorter than some documents


@dataclass(frozen=True)
class Table:
    """The columns of a CSV file by name (in lower case), each a list of N strings; its separator."""

    path: Path
    columns: dict[str, list[str]]
    content: str
    separator: str = ","

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def need(self, *names: str) -> None:
        """Raise unless all these columns are there."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise InputError(
                f"{self.path}: column {' and '.join(missing)} missing; expected path or text, label [, id] "
                f"[, split] [, group], found {', '.join(self.columns) or 'none of them'}"
            )

    def check_names(self) -> None:
        """Raise for a column whose name is nearly a known one: it would be lost without a word."""
        for name in self.columns:
            close = get_close_matches(name, [c for c in COLUMNS if c not in self.columns], n=1, cutoff=0.8)
            if name not in COLUMNS and close:
                raise InputError(f"{self.path}, line 1: unknown column {name!r}; did you mean {close[0]}?")

    def error(self, row: int, message: str) -> InputError:
        """An error about one row, with the line of the file where that row begins."""
        # Lines are only counted for an error: texts may hold newlines, so it takes another pass.
        reader, line = _reader(self.content, self.separator), 1
        number = -2  # the header is row -1
        with _long_fields():
            for cells in reader:
                number += bool(cells)
                if number == row:
                    break
                line = reader.line_num + 1
        return InputError(f"{self.path}, line {line}: {message}")

    def ids(self, column: str = "id") -> list[str]:
        """The id column; raises for an empty or a repeated one."""
        ids = self.columns[column]
        if not all(ids):
            raise self.error(ids.index(""), "the id is empty")
        self.check_repeats(column)
        return ids

    def check_repeats(self, column: str) -> None:
        """Raise for an id that occurs twice; empty ones may."""
        rows = [row for row, value in enumerate(self.columns[column]) if value]
        ids = [self.columns[column][row] for row in rows]
        if len(set(ids)) != len(ids):
            value, _, again = first_repeat(ids)
            raise self.error(rows[again], f"id {value!r} occurs a second time; ids must be unique")

    def splits(self, column: str | None = "split") -> np.ndarray:
        """(N,) uint8 split codes; all 255 where there is no split column."""
        if column is None or column not in self.columns:
            return np.full(len(self), NO_SPLIT, dtype=np.uint8)
        cells = self.columns[column]
        try:
            return as_splits(cells, len(cells), str(self.path))
        except InputError:
            row = next(i for i, cell in enumerate(cells) if clean_name(cell).casefold() not in SPLIT_CODES)
            message = f"unknown split {cells[row]!r}; use train, val, test or leave it empty"
            raise self.error(row, message) from None

    def groups(self) -> list[str] | None:
        """The group column as it stands, or None."""
        return self.columns.get("group")


def read_table(path: Path) -> Table:
    """Read a CSV file (UTF-8, with or without a byte-order mark; quoted newlines are fine).

    Cells are separated by commas; by tabs in a `.tsv`; by tabs, semicolons or bars where the header has no
    comma.

    Raises:
        InputError: the file is absent, empty, not UTF-8, has no rows, rows of another length than the
            header, an open quote, or a column twice.
    """
    content = decode(path)
    if not content.strip():
        raise InputError(f"{path}: the file is empty; expected columns path or text, label")
    separator = separator_of(path, content)
    reader = _reader(content, separator)
    rows = (cells for cells in reader if cells)
    try:
        with _long_fields():
            names = _header(path, next(rows))
            columns: list[list[str]] = [[] for _ in names]
            # Blocks, because many row lists alive at once keep the garbage collector busy.
            while block := list(islice(rows, _BLOCK)):
                for row, cells in enumerate(block, start=len(columns[0])):
                    if len(cells) != len(names):
                        message = (
                            f"{len(cells)} cells where the header has {len(names)}; quote cells with "
                            f"{SEPARATORS[separator]}"
                        )
                        raise Table(path, {}, content, separator).error(row, message)
                for column, values in zip(columns, zip(*block, strict=True), strict=True):
                    column += values
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from None
    if not columns[0]:
        raise InputError(f"{path}: there is a header but no samples below it")
    return Table(path, dict(zip(names, columns, strict=True)), content, separator)


def separator_of(path: Path, content: str) -> str:
    """What stands between the cells of a table, by its name and its first line."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    header = content.lstrip().partition("\n")[0]
    return next((mark for mark in SEPARATORS if mark in header), ",")


def write_table(stream: BinaryIO, columns: dict[str, Iterable[str]]) -> None:
    """Write columns of equal length as CSV with `\\n` line ends."""
    file = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    file.write(",".join(columns) + "\n")
    file.writelines(",".join(map(_quoted, cells)) + "\n" for cells in zip(*columns.values(), strict=True))
    file.detach()


def decode(path: Path) -> str:
    """The text of a UTF-8 file without its byte-order mark; anything else is an InputError with the line."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, where a file is expected") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None


def _header(path: Path, header: list[str]) -> list[str]:
    names = [name.strip().lower() for name in header]
    if len(set(names)) != len(names):
        raise InputError(f"{path}, line 1: column {first_repeat(names)[0]!r} occurs twice")
    return names


_SPECIAL = re.compile('[",\r\n]')


def _quoted(cell: str) -> str:
    if _SPECIAL.search(cell):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _reader(content: str, separator: str) -> Any:
    return csv.reader(io.StringIO(content, newline=""), strict=True, delimiter=separator)


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
