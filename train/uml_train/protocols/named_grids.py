"""The grids by name, those of the protocols, and those of files.

The grid `fair` has points, whose heads are solved on all rows at once; the others have candidates, which
AdamW trains for the steps of a schedule.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from uml_cache import (
    InputError,
    Setting,
    Settings,
    declared,
    parse_toml,
    read_table,
    unknown,
)
from uml_train.protocols.grid import Candidate, Grid, Point, Schedule
from uml_train.protocols.protocols import protocol_grid
from uml_train.settings import PROTOCOLS, RATIOS, SEARCHED, Texts


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
