"""The table of predictions, written in parts: what is finished stays, and the next call goes on behind it.

    OUT.parts/plan.json              a digest of what is predicted with what
    OUT.parts/000000.csv             the rows of one part, whole or not there
    OUT.parts/000000.json            its predictions and the reasons of rows without one, to be counted
    OUT                              all parts, once the last is there

Shapes: n samples of a part, C classes.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import (
    InputError,
    Output,
    escapes,
    parse_json,
    unique_ids,
    whole_file,
    whole_path,
    write_atomic,
)
from uml_evaluate.predict.predictor import Predicted

KINDS = (".csv", ".jsonl", ".parquet")
_DIGITS = 6  # of a probability


@dataclass(frozen=True)
class Shape:
    """What a row says: the `top` likeliest classes, and with `every` the probability of each class.

    A name that several classes have (ImageNet has two such pairs) gets a number: `crane`, `crane#2`.
    """

    classes: tuple[str, ...]
    top: int = 1
    every: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(unique_ids(list(self.classes))))

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        more = [f"{what}_{i}" for i in range(2, self.top + 1) for what in ("prediction", "probability")]
        every = [f"p:{name}" for name in self.classes] if self.every else []
        return ["path", "prediction", "probability", *more, *every, "reason"]


def rows_of(part: Predicted, rows: range, names: Sequence[str], shape: Shape) -> list[list[Any]]:
    """The cells of every row of a part in the order of the samples; an unreadable one has a reason alone."""
    order = {int(row): at for at, row in enumerate(part.rows)}
    ranked = np.argsort(-part.probabilities, axis=1, kind="stable")[:, : shape.top]
    blank = len(shape.columns) - 2
    found: list[list[Any]] = []
    for row in rows:
        if row not in order:
            found.append([names[row], *([None] * blank), part.failed[row]])
            continue
        at = order[row]
        p = part.probabilities[at]
        cells = [cell for c in ranked[at] for cell in (shape.classes[c], round(float(p[c]), _DIGITS))]
        every = [round(float(x), _DIGITS) for x in p] if shape.every else []
        found.append([names[row], *cells, *every, None])
    return found


class PredictionTable:
    """The file `out` and the folder of its parts.

    Args:
        digest: of all that decides the rows; parts of another one do not count.

    Raises:
        InputError: a name that does not say the kind of table.
    """

    def __init__(self, out: Path, shape: Shape, digest: str, parts: int, output: Output) -> None:
        if out.suffix.lower() not in KINDS:
            raise InputError(f"--out {out}: expected a name that ends in {', '.join(KINDS)}")
        if out.is_dir():
            raise InputError(f"--out {out} is a folder; name a file, such as {out / 'predictions.csv'}")
        self.out, self._shape, self._parts = out, shape, parts
        self._kind = out.suffix.lower()
        self.folder = out.with_name(f"{out.name}.parts")
        plan = self.folder / "plan.json"
        if plan.exists() and not _is_plan(plan, digest):
            output.say(f"{self.folder} holds parts of another prediction; they are made again")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not plan.exists():
            write_atomic(plan, json.dumps({"digest": digest}).encode())

    def done(self) -> list[int]:
        """The parts that are there."""
        return [
            part for part in range(self._parts) if self._file(part).exists() and self._told(part).exists()
        ]

    def tell(self, part: int) -> tuple[list[str], list[str]]:
        """What a finished part says: the predicted classes, and the reasons of rows without one."""
        told = parse_json(self._told(part).read_bytes())
        return list(told["predicted"]), list(told["failed"])

    def write(self, part: int, rows: list[list[Any]]) -> None:
        """Write a part; it appears when it is whole."""
        told = {
            "predicted": [row[1] for row in rows if row[-1] is None],
            "failed": [row[-1] for row in rows if row[-1] is not None],
        }
        write_atomic(self._told(part), json.dumps(told).encode())
        with whole_file(self._file(part)) as stream:
            stream.write(_BYTES[self._kind](rows, self._shape.columns, part == 0))

    def finish(self) -> None:
        """Join the parts to the table, and take them away."""
        files = [self._file(part) for part in range(self._parts)]
        if self._kind == ".parquet":
            with whole_path(self.out) as new:
                _join_parquet(files, new)
        else:
            with whole_file(self.out) as stream:
                for file in files:
                    with file.open("rb") as part:
                        shutil.copyfileobj(part, stream)
        shutil.rmtree(self.folder)

    def _told(self, part: int) -> Path:
        return self.folder / f"{part:06d}.json"

    def _file(self, part: int) -> Path:
        return self.folder / f"{part:06d}{self._kind}"


def _is_plan(plan: Path, digest: str) -> bool:
    try:
        return bool(parse_json(plan.read_bytes())["digest"] == digest)
    except (ValueError, KeyError, TypeError):
        return False


def _csv(rows: list[list[Any]], columns: list[str], first: bool) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if first:
        writer.writerow([escapes.csv_cell(name) for name in columns])
    writer.writerows([["" if cell is None else escapes.csv_cell(cell) for cell in row] for row in rows])
    return text.getvalue().encode(errors="backslashreplace")


def _json_lines(rows: list[list[Any]], columns: list[str], first: bool) -> bytes:
    lines = (
        json.dumps({name: cell for name, cell in zip(columns, row, strict=True) if cell is not None})
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _parquet(rows: list[list[Any]], columns: list[str], first: bool) -> bytes:
    import pyarrow
    import pyarrow.parquet

    def kind(name: str) -> Any:
        return pyarrow.float64() if name.startswith(("probability", "p:")) else pyarrow.string()

    schema = pyarrow.schema([(name, kind(name)) for name in columns])
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = [pyarrow.array(list(column), kind(name)) for name, column in zip(columns, cells, strict=True)]
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays, schema=schema), stream)
    return stream.getvalue()


def _join_parquet(files: Sequence[Path], out: Path) -> None:
    import pyarrow.parquet

    first = pyarrow.parquet.read_schema(files[0])
    with pyarrow.parquet.ParquetWriter(out, first) as writer:
        for file in files:
            writer.write_table(pyarrow.parquet.read_table(file))


_BYTES = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}
