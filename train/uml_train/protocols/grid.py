"""The search grid: which hyperparameters are tried for every method, and for how long each model trains.

The grid `fair` has points, whose heads are solved on all rows at once; the others have candidates, which
AdamW trains for the steps of a schedule.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from uml_cache import (
    InputError,
    Setting,
    Settings,
    at_least,
    declared,
    parse_toml,
    read_table,
    unknown,
)
from uml_train.protocols.protocols import protocol_grid
from uml_train.settings import PROTOCOLS, RATIOS, SEARCHED, Texts


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One point of the grid: the hyperparameters of one model.

    `alpha` weights each auxiliary's loss, `ratio` is the number of auxiliary batches per target batch;
    both are None for a model without auxiliary losses. `texts` is how many auxiliary samples of a class it
    sees, None where the run's settings say that. `repeat` counts models that are alike otherwise: each starts
    from its own weights and sees the batches in its own order.
    """

    lr: float
    weight_decay: float
    batch_size: int
    learnable_scale: bool = False
    alpha: float | None = 1.0
    ratio: float | None = 1.0
    repeat: int = 0
    texts: Texts | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the grid `fair`, whose heads are solved on all rows at once.

    `loss` is what the training rows are fitted by: `cross-entropy`, or `squared` errors of one-hot labels.
    `strength` is how little weights are penalised: the penalty is the features' mean squared length over it.
    `alpha` and `ratio` are as in `Candidate`; a ratio is one more factor of the auxiliaries' weight here.
    `prior` is how much of the class weights' covariance is the auxiliary's (`prior`; 0 for `ridge`), None
    for the other methods.
    """

    loss: str
    strength: float
    alpha: float | None = 1.0
    ratio: float | None = 1.0
    prior: float | None = None

    @property
    def weight(self) -> float:
        """The weight of each auxiliary's mean loss, where the target's is 1; 0 without auxiliary losses."""
        return 0.0 if self.alpha is None or self.ratio is None else self.alpha * self.ratio


@dataclass(frozen=True, kw_only=True)
class Schedule(Settings):
    """How long a model trains and when it is looked at.

    Steps are counted from 0. The rate of step 0 is 1e-5 whatever the base rate, steps 1 … `warmup` rise
    linearly to the base rate, and a cosine over `steps` falls from there. Validation is looked at after every
    step divisible by `eval_every` and after the last one; `patience` evaluations without a better one end the
    training.
    """

    steps: Annotated[int, Setting("Updates.", takes="a whole number of at least 1", check=at_least(1))]
    warmup: Annotated[int, Setting("Rising steps.", takes="a whole number from 0 on", check=at_least(0))]
    eval_every: Annotated[int, Setting("Steps.", takes="a whole number of at least 1", check=at_least(1))]
    patience: Annotated[int, Setting("Looks.", takes="a whole number of at least 1", check=at_least(1))]

    def lr(self, base: float, step: int) -> float:
        """The learning rate of one step."""
        if step == 0:
            return 1e-5
        if step <= self.warmup:
            return base * step / self.warmup
        return base * (1.0 + math.cos(math.pi * (step - self.warmup) / self.steps)) / 2.0

    @property
    def looks(self) -> int:
        """How often a model is shown the validation rows at most."""
        return sum(self.evaluates(step) for step in range(self.steps))

    def evaluates(self, step: int) -> bool:
        """Whether validation is looked at after this step."""
        return step % self.eval_every == 0 or step == self.steps - 1


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A named set of candidates and the schedule that all of them follow, or of points."""

    name: str
    candidates: tuple[Candidate, ...]
    schedule: Schedule
    points: tuple[Point, ...] = ()

    @property
    def size(self) -> int:
        """How many models of a method validation chooses from."""
        return len(self.points) or len(self.candidates)

    def points_for(self, *, auxiliary_loss: bool) -> tuple[Point, ...]:
        """The points of a method; without auxiliary losses each strength once, because equals are equal."""
        if auxiliary_loss:
            return self.points
        return tuple(dict.fromkeys(replace(p, alpha=None, ratio=None) for p in self.points))

    def crossed_points(self, *, prior: bool) -> tuple[Point, ...]:
        """The points of `ridge` and of `prior`, as `crossed_points` makes them."""
        return crossed_points(self.points, prior=prior)

    def candidates_for(
        self,
        *,
        auxiliary_loss: bool,
        learns_scale: bool = True,
        sees_texts: bool | None = None,
        equal: bool = True,
    ) -> tuple[Candidate, ...]:
        """The candidates for a method to which part of the grid means nothing.

        With `equal` those that become alike are told apart by `repeat`: equal search for every method, since
        more candidates mean more luck on few validation rows. Otherwise each is tried once, as in the paper.

        Args:
            sees_texts: whether the auxiliary matters, such as where the head begins at its class means;
                None: as `auxiliary_loss`.
        """
        sees_texts = auxiliary_loss if sees_texts is None else sees_texts
        seen: Counter[Candidate] = Counter()
        found = []
        for candidate in self.candidates:
            if not auxiliary_loss:
                candidate = replace(candidate, alpha=None, ratio=None)
            if not sees_texts:
                candidate = replace(candidate, texts=None)
            if not learns_scale:
                candidate = replace(candidate, learnable_scale=False)
            if equal or not seen[candidate]:
                found.append(replace(candidate, repeat=seen[candidate]))
            seen[candidate] += 1
        return tuple(found)


def crossed_points(points: Sequence[Point], *, prior: bool) -> tuple[Point, ...]:
    """The strengths of squared errors among `points` for `ridge`, each with every share of the prior for
    `prior`."""
    squared = dict.fromkeys(replace(p, alpha=None, ratio=None) for p in points if p.loss == "squared")
    return tuple(replace(p, prior=share) for share in (PRIORS if prior else (0.0,)) for p in squared)


def _grid(
    name: str,
    *,
    lr: list[float],
    weight_decay: list[float],
    batch_size: list[int],
    learnable_scale: list[bool],
    alpha: Sequence[float] = (1.0,),
    ratio: Sequence[float] = (1.0,),
    texts: Sequence[Texts | None] = (None,),
    steps: int,
    warmup: int,
    eval_every: int,
    patience: int,
) -> Grid:
    schedule = Schedule(steps=steps, warmup=warmup, eval_every=eval_every, patience=patience)
    candidates = tuple(
        Candidate(lr=r, weight_decay=d, batch_size=b, learnable_scale=s, alpha=a, ratio=q, texts=t)
        for r, d, b, s, a, q, t in product(lr, weight_decay, batch_size, learnable_scale, alpha, ratio, texts)
    )
    return Grid(name=name, candidates=candidates, schedule=schedule)


AUTO = "auto"
FAIR = "fair"
_STRENGTHS = {"cross-entropy": (0.3, 3.0, 30.0, 300.0), "squared": (0.1, 1.0, 10.0, 100.0)}
PRIORS = (0.0, 0.5, 0.75, 0.9)
_SOLVED = Schedule(steps=1, warmup=0, eval_every=1, patience=1)  # solved, and looked at once


def _fair(alpha: Sequence[float] = (1.0,), ratio: Sequence[float] = (1.0,)) -> Grid:
    points = tuple(
        Point(loss=loss, strength=s, alpha=a, ratio=r)
        for loss, strengths in _STRENGTHS.items()
        for s, a, r in product(strengths, alpha, ratio)
    )
    return Grid(name=FAIR, candidates=(), schedule=_SOLVED, points=points)


_NAMED: dict[str, dict[str, Any]] = {
    "quick": {
        "lr": [1e-2, 1e-3],
        "weight_decay": [0.01],
        "batch_size": [32],
        "learnable_scale": [False],
        "steps": 1_000,
        "warmup": 50,
        "eval_every": 50,
        "patience": 5,
    },
    # As quick, with a shorter patience in steps: the demo's three tables are to take minutes.
    "demo": {
        "lr": [1e-2, 1e-3],
        "weight_decay": [0.01],
        "batch_size": [32],
        "learnable_scale": [False],
        "steps": 600,
        "warmup": 50,
        "eval_every": 25,
        "patience": 5,
    },
    # Whole networks, for a first look.
    "finetune-quick": {
        "lr": [5e-5],
        "weight_decay": [0.01],
        "batch_size": [64],
        "learnable_scale": [False],
        "steps": 1_000,
        "warmup": 50,
        "eval_every": 50,
        "patience": 5,
    },
}
# The grids of the protocols, by name: `protocols.toml` holds their values.
_OF_PROTOCOLS: dict[str, tuple[str, str]] = {
    f"{before}{protocol}{behind}": (protocol, scope)
    for protocol in PROTOCOLS[1:]
    for before, behind, scope in (
        ("", "", "heads"), ("", "-joint", "joint"), ("", "-esc", "esc"), ("finetune-", "", "finetune"),
    )
}  # fmt: skip


def _known(name: str) -> dict[str, Any]:
    return _NAMED[name] if name in _NAMED else protocol_grid(*_OF_PROTOCOLS[name])


_POSITIVE, _FROM_0, _WHOLE = "numbers above 0", "numbers from 0 on", "whole numbers from 1 on"
_RATIOS = ", ".join(f"{r:g}" for r in RATIOS)


def _positive(values: tuple[float, ...]) -> bool:
    return min(values, default=0) > 0


def _from_0(values: tuple[float, ...]) -> bool:
    return min(values, default=-1) >= 0


def _ratios(values: tuple[float, ...]) -> bool:
    return set() < set(values) <= set(RATIOS)


@dataclass(frozen=True, kw_only=True)
class _Axes(Settings):
    """What a grid file lists: the values that are tried of each hyperparameter."""

    lr: Annotated[tuple[float, ...], Setting("Learning rates.", takes=_POSITIVE, check=_positive)]
    weight_decay: Annotated[tuple[float, ...], Setting("Weight decays.", takes=_FROM_0, check=_from_0)]
    batch_size: Annotated[tuple[int, ...], Setting("Batch sizes.", takes=_WHOLE, check=_positive)]
    learnable_scale: Annotated[
        tuple[bool, ...], Setting("Learnt scale.", takes="true, false or both", check=bool)
    ]
    alpha: Annotated[tuple[float, ...], Setting("Auxiliaries' weights.", takes=_FROM_0, check=_from_0)]
    ratio: Annotated[tuple[float, ...], Setting("Auxiliary batches.", takes=_RATIOS, check=_ratios)]
    texts: Annotated[tuple[Texts, ...], Setting(
        "Auxiliary samples per class.", takes="numbers of at least 1, all or mean",
        check=lambda texts: bool(texts) and all(t in ("all", "mean") or t >= 1 for t in texts),
    )]  # fmt: skip


def load_grid(
    name: str,
    *,
    alpha: Sequence[float] | None = None,
    ratio: Sequence[float] | None = None,
    texts: Texts = "all",
    family: str = "",
) -> Grid:
    """A named grid, or the one in a TOML file with the keys of `quick` (those absent as there).

    `fair` solves heads on all rows at once. `quick` is AdamW for a first look, `demo` quick with less
    patience; `paper`, `authors` and those with `-joint` or `-esc` behind are the protocols'.

    Args:
        alpha: values of this axis, instead of the grid's own.
        ratio: likewise.
        texts: with `search` the grid's axis of texts counts, with anything else none does.
        family: `finetune-` for the grids of that kind; a file then gets its absent keys from there.

    Raises `InputError` for an unknown name, a file that is no TOML, unknown keys and values out of range.
    """
    given = (("alpha", alpha), ("ratio", ratio))
    axes: dict[str, list[Any]] = {key: list(values) for key, values in given if values is not None}
    if name == FAIR and not family:
        return _fair(**axes)
    if name == AUTO:
        name = "quick"
    everything = [*_NAMED, *_OF_PROTOCOLS]
    if texts != SEARCHED:
        axes["texts"] = [None]
    if family + name in everything:
        return _grid(family + name, **{**_known(family + name), **axes})
    mine = [n for n in everything if (n.startswith(family) if family else "finetune" not in n)]
    known = [n.removeprefix(family) for n in mine]
    known += [FAIR] if not family else []
    path, values = read_grid_file("grid", name, known)
    return _grid(path.stem, **{**_NAMED[family + "quick"], **_checked(path, values), **axes})


def read_grid_file(what: str, name: str, known: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """The TOML file of a grid that is none of the `known` ones, and what it holds.

    Raises `InputError` for a name that is no TOML file's, and a file that is missing or broken.
    """
    path = Path(name)
    if path.suffix != ".toml":
        raise unknown(what, name, [*known, "FILE.toml"])
    try:
        return path, parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"grid file {path} does not exist; name one of {', '.join(known)} or a TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"grid file {path} is not TOML: {error}") from None


def _checked(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    where = f"grid file {path}:"
    return read_table(values, declared(_Axes) | declared(Schedule), f"key in {where}", f"{where} ")
