"""`uml eval --compare`: two runs, cell against cell.

Shapes: S draws (seeds) that both runs have, N test samples.

Cells are paired by everything that names them: auxiliaries, method, control, shots, seed. The runs must have
the same data set, target, classes, test rows and draws, or a pair would compare other things than the
settings in which the runs differ.

The test (`significance.sign_flip_p`) speaks of draws on these test rows; the interval resamples the test rows
too. Holm's step-down corrects for the number of pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, log2
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import InputError
from uml_evaluate.comparing.fields import different_fields
from uml_evaluate.comparing.known import scored_difference
from uml_evaluate.comparing.rows import arm_name, arm_order, interval_fields, shots_order
from uml_evaluate.comparing.shown.numbers import signed
from uml_evaluate.comparing.shown.tables import LEGEND, WIDTH, marked_points, plain_table, shots_name
from uml_evaluate.comparing.significance import holm, sign_flip_p, smallest_p
from uml_evaluate.comparing.statistics import Interval
from uml_evaluate.metrics.values import RowValues

if TYPE_CHECKING:
    from uml_train import CellResult, Run, Shots

_LEVEL = 0.05
_Key = tuple[tuple[str, ...], str, str | None, "Shots"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One method at one number of shots, run A − run B in percentage points.

    `p` is the test's, `corrected` Holm's (both None for one draw); `seeds` are those that both have.
    """

    auxiliaries: tuple[str, ...]
    method: str
    control: str | None
    shots: Shots
    a: float
    b: float
    interval: Interval
    p: float | None
    corrected: float | None

    def to_json(self) -> dict[str, Any]:
        """The pair as JSON values."""
        return {
            "auxiliaries": list(self.auxiliaries),
            "method": self.method,
            "control": self.control,
            "shots": self.shots,
            "a": self.a,
            "b": self.b,
            **interval_fields(self.interval),
            "p": self.p,
            "p_holm": self.corrected,
        }


@dataclass(frozen=True)
class Contrast:
    """Two runs compared. `differs` names the settings that differ, with both values."""

    a: Run
    b: Run
    pairs: list[Pair]
    differs: list[tuple[str, Any, Any]]

    @property
    def smallest_p(self) -> float:
        """The smallest p that the test can give with the largest number of draws at hand."""
        return smallest_p(max(pair.interval.draws for pair in self.pairs))

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml eval --compare --json`."""
        return {
            "a": str(self.a.path),
            "b": str(self.b.path),
            "differs": [{"field": name, "a": a, "b": b} for name, a, b in self.differs],
            "pairs": [pair.to_json() for pair in self.pairs],
            "comparisons": len(self.pairs),
            "test": "sign-flip permutation of the draws, two-sided; Holm",
            "smallest_p": self.smallest_p,
        }

    def text(self) -> str:
        """The settings that differ, the pairs, and what the test can show."""
        differs = [f"  {name}: {_short(a)} | {_short(b)}" for name, a, b in self.differs]
        rows = [
            [
                arm_name((pair.method, pair.control))
                + f" ← {'+'.join(pair.auxiliaries)}" * bool(pair.auxiliaries),
                shots_name(pair.shots),
                f"{pair.a:.1f}",
                f"{pair.b:.1f}",
                marked_points(pair.interval),
                _bounds(pair.interval),
                "" if pair.p is None else f"{pair.p:.3f}",
                "" if pair.corrected is None else f"{pair.corrected:.3f}",
            ]
            for pair in self.pairs
        ]
        head = ["method", "shots", "A", "B", "A − B", "95 % interval", "p", "p, Holm"]
        return "\n".join(
            [
                f"A  {self.a.path}",
                f"B  {self.b.path}",
                *(["they differ in (A | B)", *differs] if differs else ["their settings are the same"]),
                "",
                plain_table(head, rows),
                self._footnote(),
            ]
        )

    def _footnote(self) -> str:
        draws = max(pair.interval.draws for pair in self.pairs)
        count = len(self.pairs)
        needed = ceil(log2(2 * count / _LEVEL))
        note = (
            f"{fill(f'{LEGEND} Helps: A is better, by seed.', WIDTH)}\n"
            "p: two-sided sign-flip test over the seeds on these test rows; "
            f"with {draws} seed{'s' * (draws != 1)} it cannot fall below {self.smallest_p:.3g}.\n"
            f"Holm corrects for {count} comparison{'s' * (count != 1)}"
        )
        if self.smallest_p * count <= _LEVEL:
            return note + "."
        return f"{note}: below {_LEVEL} takes {needed} seeds or more."


def contrast(a: Run, b: Run, *, shots: Iterable[Shots] | None = None) -> Contrast:
    """Pair the cells of two runs at `shots` (None: all).

    Raises:
        InputError: the runs have another data set, target, classes, test rows or draws (the field is named),
            or no cell in common.
    """
    _comparable(a, b)
    ours, theirs = _cells(a, shots), _cells(b, shots)
    keys = sorted(set(ours) & set(theirs), key=_order)
    scores = RowValues(a), RowValues(b)
    _same_draws(a, b, {(key[3], seed) for key in keys for seed in set(ours[key]) & set(theirs[key])})
    found: list[tuple[_Key, float, float, Interval, float | None]] = []
    for key in keys:
        seeds = sorted(set(ours[key]) & set(theirs[key]))
        if not seeds:
            continue
        a_sn, b_sn = (
            np.stack([side.of(cells[key][seed]) for seed in seeds])
            for side, cells in zip(scores, (ours, theirs), strict=True)
        )
        interval = scored_difference(a_sn, b_sn)
        p = sign_flip_p(a_sn.mean(1) - b_sn.mean(1)) if len(seeds) > 1 else None
        means = 100.0 * float(a_sn.mean()), 100.0 * float(b_sn.mean())
        found.append((key, *means, interval.scaled(100.0), p))
    if not found:
        raise InputError(
            f"{a.path} and {b.path} have no cell in common: no method at the same shots, seed and auxiliaries"
        )
    corrected = iter(holm([p for *_, p in found if p is not None]))
    pairs = [
        Pair(
            auxiliaries=labels, method=method, control=control, shots=k, a=mean_a, b=mean_b,
            interval=interval, p=p, corrected=None if p is None else next(corrected),
        )
        for (labels, method, control, k), mean_a, mean_b, interval, p in found
    ]  # fmt: skip
    return Contrast(a, b, pairs, _differing_settings(a, b))


def _comparable(a: Run, b: Run) -> None:
    """Refuse runs whose numbers mean different things."""
    splits = [run.splits for run in (a, b)]
    fields = (
        ("data set", *(run.config["dataset"] for run in (a, b))),
        ("target", *(str(run.config["target"]).partition(":")[0] for run in (a, b))),
        ("objective", *(run.config.get("objective") for run in (a, b))),
        ("classes", *(tuple(run.config["classes"]) for run in (a, b))),
        ("test rows", *(tuple(s["test"]) for s in splits)),
    )
    for name, one, other in fields:
        if one != other:
            raise InputError(
                f"{a.path} and {b.path} cannot be compared: {name} differ{_what(one, other)}; runs must "
                "share data set, target, classes, test rows and draws"
            )
    if not np.array_equal(a.test_labels, b.test_labels):
        raise InputError(f"{a.path} and {b.path} cannot be compared: labels of the test rows differ")


def _same_draws(a: Run, b: Run, draws: set[tuple[Shots, int]]) -> None:
    """Refuse seeds that mean different rows in the two runs."""
    ours, theirs = a.splits, b.splits
    for k, seed in sorted(draws, key=str):
        name = f"k{k}-s{seed}"
        parts = (ours, theirs) if k == "all" else (ours["draws"].get(name), theirs["draws"].get(name))
        if any(part is None for part in parts):
            continue
        for rows in ("train", "val"):
            if set(parts[0].get(rows, ())) != set(parts[1].get(rows, ())):
                raise InputError(
                    f"{a.path} and {b.path} cannot be compared: the {rows} rows of draw {name} differ, "
                    "so that seeds do not pair"
                )


def _what(one: Any, other: Any) -> str:
    if isinstance(one, tuple) and isinstance(other, tuple):
        common = len(set(one) & set(other))
        return f" ({len(one)} and {len(other)}, {common} in common)"
    return f" ({one!r} and {other!r})"


def _cells(run: Run, shots: Iterable[Shots] | None) -> dict[_Key, dict[int, CellResult]]:
    """Cells by what pairs them, then by seed. Of several widths of `unimodal-deep` the first counts."""
    wanted = None if shots is None else set(shots)
    order = [tuple(labels) for labels in run.config.get("configurations", [])]
    widths = [
        next((r.cell.shared_width for r in run.cells if r.cell.auxiliaries == labels), None)
        for labels in order
    ]
    found: dict[_Key, dict[int, CellResult]] = {}
    for result in run.cells:
        cell = result.cell
        if wanted is not None and cell.shots not in wanted:
            continue
        if cell.method == "unimodal-deep" and widths and cell.shared_width != widths[0] and widths[0]:
            continue
        labels = tuple(label.partition(":")[0] for label in cell.auxiliaries)
        found.setdefault((labels, cell.method, cell.control, cell.shots), {})[cell.seed] = result
    return found


def _order(key: _Key) -> tuple[Any, ...]:
    labels, method, control, shots = key
    rank, control_name = arm_order((method, control))
    return shots_order(shots), rank, labels, control_name


def _differing_settings(a: Run, b: Run) -> list[tuple[str, Any, Any]]:
    """What the runs did differently: settings, grids and encoders; not where they lie."""
    return [
        (name, one, other)
        for name, one, other in different_fields(_described(a), _described(b))
        if one is not None or other is not None
    ]


def _described(run: Run) -> dict[str, Any]:
    places = ("cache", "out", "device", "class_map", "shots", "seeds", "auxiliaries", "target", "grid")
    settings = {k: v for k, v in run.config["settings"].items() if k not in places}
    stores = {
        label.partition(":")[0]: f"{store['encoder']} ({str(store['fingerprint'])[:8]})"
        for label, store in run.config["stores"].items()
    }
    grid = run.config["grid"]
    return {
        "dataset": run.config["dataset"],
        **settings,
        "encoder": stores,
        "grid": {"name": grid["name"], "candidates": len(grid["candidates"])},
    }


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f"[{signed(interval.low)}, {signed(interval.high)}]".replace("+", "")


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
