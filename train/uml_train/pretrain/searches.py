"""What is searched when a shared transformer learns without labels, and for how long each network trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from uml_cache.errors import InputError, unknown
from uml_train.heads.grid import read_grid_file
from uml_train.pretrain.shared_transformer import TransformerConfig

CURRICULA = ("joint", "target-first", "auxiliary-first")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One point of the search.

    `alpha` is λ, the weight of each auxiliary's loss, and `step` the length in epochs of the curriculum's
    first part; both are None for a network without auxiliaries. `repeat` counts candidates that are alike
    otherwise: each has its own weights and batches.
    """

    lr: float
    width: int
    alpha: float | None
    step: int | None
    repeat: int = 0


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """The networks that are tried for every method, and how they train (Adam at a constant rate, no decay).

    Args:
        name: how tables call it.
        lr, width, alpha, step: axes of the search; see `Candidate`.
        batch_size: samples of every modality in a step; a set that is smaller is used whole.
        epochs: passes over the target; or
        steps: batches of the target. Either fixes how many samples of the target each method sees.
        curriculum: `joint`; `target-first`: the target alone for the first `step` of its epochs (the paper's
            text); `auxiliary-first`: the auxiliaries alone for `step` epochs of the target's length, before
            the target's own budget begins (the reference code).
        layers, heads, feedforward, dropout, norm, positions: of the network, see `TransformerConfig`.
        clip: gradients longer than this are shortened to it; 0: never.

    Raises:
        InputError: a value out of range.
    """

    name: str
    lr: tuple[float, ...]
    width: tuple[int, ...]
    alpha: tuple[float, ...] = (1.0,)
    step: tuple[int, ...] = (0,)
    batch_size: int = 32
    epochs: int = 0
    steps: int = 0
    curriculum: str = "joint"
    layers: int = 5
    heads: int = 5
    feedforward: int = 2048
    dropout: float = 0.1
    norm: str = "post"
    positions: str = "none"
    clip: float = 0.0
    candidates: tuple[Candidate, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.curriculum not in CURRICULA:
            raise unknown("curriculum", self.curriculum, CURRICULA)
        if (self.epochs > 0) == (self.steps > 0):
            raise InputError(f"{self.name}: give either epochs or steps, a whole number from 1 on")
        if self.batch_size < 1:
            raise InputError(f"{self.name}: batch_size is {self.batch_size}; it must be at least 1")
        for axis in ("lr", "width", "alpha", "step"):
            values = getattr(self, axis)
            low = 0 if axis in ("alpha", "step") else None
            if not values or len(set(values)) < len(values):
                raise InputError(f"{self.name}: {axis} is {list(values)}; give different numbers")
            if any(v < 0 or (low is None and v == 0) for v in values):
                raise InputError(f"{self.name}: {axis} is {list(values)}; its values must be positive")
        if self.curriculum == "joint" and self.step != (0,):
            raise InputError(f"{self.name}: step has no meaning under the curriculum joint; leave it out")
        if self.epochs and self.curriculum == "target-first" and max(self.step) >= self.epochs:
            raise InputError(
                f"{self.name}: step goes to {max(self.step)} of {self.epochs} epochs, so that the "
                "auxiliaries would never be trained on; make it smaller"
            )
        if self.clip < 0:
            raise InputError(f"{self.name}: clip is {self.clip:g}; it must not be negative")
        for width in self.width:
            self.network(width)
        found = tuple(
            Candidate(lr=r, width=w, alpha=a, step=s)
            for r, w, a, s in product(self.lr, self.width, self.alpha, self.step)
        )
        object.__setattr__(self, "candidates", found)

    def network(self, width: int, longest: int = 0) -> TransformerConfig:
        """The network of one width; `longest` is the number of positions that can be learnt."""
        return TransformerConfig(
            width=width,
            layers=self.layers,
            heads=self.heads,
            feedforward=self.feedforward,
            dropout=self.dropout,
            norm=self.norm,
            positions=self.positions,
            longest=longest,
        )

    def candidates_for(self, *, auxiliaries: bool, weighted: bool = True) -> tuple[Candidate, ...]:
        """As many candidates for a method to which λ (not `weighted`) or both axes mean nothing.

        Those that become alike are told apart by `repeat`: equal search for every method.
        """
        seen: Counter[Candidate] = Counter()
        found = []
        for candidate in self.candidates:
            if not auxiliaries:
                candidate = replace(candidate, alpha=None, step=None)
            elif not weighted:
                candidate = replace(candidate, alpha=None)
            found.append(replace(candidate, repeat=seen[candidate]))
            seen[candidate] += 1
        return tuple(found)


_NAMED: dict[str, dict[str, Any]] = {
    "quick": {
        "lr": [1e-3],
        "width": [64],
        "steps": 200,
        "layers": 2,
        "heads": 4,
        "feedforward": 256,
    },
    # Paper B.4.1; batch size, feed-forward width and dropout are the reference code's.
    "multibench": {
        "lr": [1e-2, 1e-3, 1e-4],
        "width": [10, 40, 150, 300],
        "step": [0, 30, 50, 70],
        "curriculum": "target-first",
        "epochs": 100,
    },
    # Paper B.4.1 names width, layers and heads. For the search it points to Table 5, the grid of linear
    # probes, whose learning rates these are; epochs and the rest are as above.
    "vision-text": {"lr": [1e-3, 1e-4], "width": [256], "epochs": 100, "layers": 4, "heads": 4},
}
_LISTS: dict[str, type] = {"lr": float, "width": int, "alpha": float, "step": int}
_SCALARS: dict[str, type] = {
    "batch_size": int,
    "epochs": int,
    "steps": int,
    "curriculum": str,
    "layers": int,
    "heads": int,
    "feedforward": int,
    "dropout": float,
    "norm": str,
    "positions": str,
    "clip": float,
}


def load_pretraining(name: str, *, alpha: tuple[float, ...] | None = None) -> Pretraining:
    """`quick`, `multibench`, `vision-text`, or a TOML file with `Pretraining`'s keys (absent: as in quick).

    Args:
        alpha: values of λ to search instead of the grid's own.

    Raises:
        InputError: an unknown name, a file that is no TOML, unknown keys, values of another kind or out of
            range.
    """
    if name in _NAMED:
        values = dict(_NAMED[name])
    else:
        path, found = read_grid_file("grid of the objectives ssl and joint:", name, list(_NAMED))
        values = {**_NAMED["quick"], **{key: _checked(path, key, value) for key, value in found.items()}}
        if "epochs" in found and "steps" not in found:
            values["steps"] = 0  # quick counts steps
        name = path.stem
    if alpha is not None:
        values["alpha"] = list(alpha)
    for key in _LISTS:
        if key in values:
            values[key] = tuple(values[key])
    return Pretraining(name=name, **values)


def _checked(path: Path, key: str, value: Any) -> Any:
    kind = _LISTS.get(key) or _SCALARS.get(key)
    if kind is None:
        raise unknown(f"key in grid file {path}:", key, [*_LISTS, *_SCALARS])
    items = value if isinstance(value, list) and key in _LISTS else [value]
    allowed: Mapping[type, tuple[type, ...]] = {float: (int, float), int: (int,), str: (str,)}
    if not items or any(type(item) not in allowed[kind] for item in items):
        what = f"a list of {kind.__name__} values" if key in _LISTS else f"one {kind.__name__} value"
        raise InputError(f"grid file {path}: {key} is {value!r}; it must be {what}")
    return [kind(item) for item in items] if key in _LISTS else kind(value)
