"""What an analysis found, and its place in a run's folder.

    RUN/analyses/<analysis>-<auxiliaries>.json    sentences, notes, tables, numbers and what they depend on
    RUN/analyses/<analysis>-<auxiliaries>.npz     arrays that its figure is drawn from

The record is written last and holds the digest of the arrays, so that a finding is whole or does not exist.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uml_cache import InputError, write_together
from uml_evaluate.analyses import module_of
from uml_evaluate.comparing.shown.figures import Drawn
from uml_evaluate.comparing.shown.figures import save as save_figure
from uml_train import DamagedFile, plain_name, read_record, record_bytes

FORMAT = 2
_UNCHECKED = 1  # of version 0.1, whose record had no checksum of its own

_AGAIN = "the same `uml eval --analysis` command computes it again"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text below a head; the first column names the row."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one analysis of one run with one configuration of auxiliaries.

    Args:
        analysis: its name, such as `margin`.
        title: what a heading says.
        paper: the section or equation of the paper that it follows.
        auxiliaries: labels of the configuration; () for a run without any.
        said: sentences on what was found.
        notes: what can be compared with what, how it was computed, what it does not show.
        tables: for people; every number in them is in `values`.
        values: numbers by name, as JSON.
        arrays: what the figure is drawn from.
        caption: of the figure.
        command: computes it again.
        key: digest of all that it depends on; the same key gives the same finding.
        shots, options: that it was asked for with.
        seconds: that it took.
    """

    analysis: str
    title: str
    paper: str
    auxiliaries: tuple[str, ...]
    said: Sequence[str]
    notes: Sequence[str]
    tables: Sequence[Table]
    values: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    caption: str = ""
    command: str = ""
    key: str = ""
    shots: Sequence[Any] = ()
    options: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The name of its files, such as `margin-text`."""
        return file_stem(self.analysis, self.auxiliaries)

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays."""
        values = {k: v for k, v in vars(self).items() if k != "arrays"}
        return {**values, "auxiliaries": list(self.auxiliaries), "tables": [asdict(t) for t in self.tables]}

    def text(self) -> str:
        """Sentences, tables and notes for the terminal."""
        from uml_evaluate.comparing.shown.tables import plain_table

        tables = [f"{t.caption}\n{plain_table(t.head, t.rows)}" for t in self.tables]
        return "\n\n".join([f"{self.title} (paper {self.paper})", *self.said, *tables, *self.notes])


def file_stem(analysis: str, auxiliaries: Sequence[str]) -> str:
    """Such as `margin-text+audio`."""
    return plain_name(f"{analysis}-{'+'.join(auxiliaries) or 'alone'}")


def save(finding: Finding, run: Path) -> None:
    """Write a finding into a run's folder; it is whole or as it was."""
    folder = run / "analyses"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **finding.arrays)
    data = buffer.getvalue()
    record = {"format": FORMAT, **finding.to_json(), "arrays": sha256(data).hexdigest()}
    arrays, text = folder / f"{finding.name}.npz", folder / f"{finding.name}.json"
    write_together({arrays: data}, {text: record_bytes(record, indent=1)})


def load(path: Path) -> Finding | None:
    """Read a finding's record and arrays; None where there is none, or one of another format.

    Raises:
        DamagedFile: one of the two is not what was written.
    """
    try:
        values = read_record(path, _AGAIN, required=False)
        version = values.pop("format", None)
        if version == FORMAT:
            read_record(path, _AGAIN)
        elif version != _UNCHECKED:
            return None
        file = path.with_suffix(".npz")
        data = file.read_bytes()
        if values.pop("arrays") != sha256(data).hexdigest():
            raise DamagedFile(file, "is damaged (it does not match its checksum)", _AGAIN)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        tables = [Table(**table) for table in values.pop("tables")]
        auxiliaries = tuple(values.pop("auxiliaries"))
        return Finding(auxiliaries=auxiliaries, tables=tables, arrays=arrays, **values)
    except FileNotFoundError:
        return None
    except DamagedFile:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(path, f"is damaged ({error})", _AGAIN) from None


def findings(run: Path) -> tuple[list[Finding], list[DamagedFile]]:
    """All findings in a run's folder, in the order of the analyses, and what is wrong with the others."""
    from uml_evaluate.analyses import ANALYSES

    order = list(ANALYSES)
    found: list[Finding] = []
    damaged: list[DamagedFile] = []
    for path in sorted((run / "analyses").glob("*.json")):
        try:
            finding = load(path)
        except DamagedFile as error:
            damaged.append(error)
            continue
        found += [finding] if finding is not None else []
    known = [f for f in found if f.analysis in order]
    return sorted(known, key=lambda f: (f.auxiliaries, order.index(f.analysis))), damaged


class NotPossible(InputError):
    """The analysis has nothing to look at in this run; the message says what would change that."""


def draw(finding: Finding, folder: Path, prefix: str = "") -> Drawn | None:
    """The figure of a finding, as PNG and SVG in a folder; None for one that has none."""
    if finding.values.get("refused"):
        return None
    figure = module_of(finding.analysis).figure(finding)
    if figure is None:
        return None
    what = f"{finding.title}. {' '.join(finding.said)}"
    return save_figure(figure, folder, f"{prefix}{finding.name}", what)
