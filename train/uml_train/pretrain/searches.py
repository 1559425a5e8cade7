"""What is searched when a shared transformer learns without labels, and for how long each network trains."""

# Annotations are not postponed here: they hold the declarations, and those are values.

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from uml_cache import InputError, Setting, Settings, all_different, at_least, declared, read_toml, unknown
from uml_train.pretrain.network.shared_transformer import NORMS, POSITIONS, TransformerConfig
from uml_train.protocols.protocols import protocol_grid

# Curricula whose first part comes out of the target's epochs, and who waits in it.
_INSIDE = {"target-first": "auxiliaries", "auxiliary-first": "target"}
_POSITIVE, _FROM_0 = "different numbers, which must be positive", "different numbers from 0 on"


def _positive(values: tuple[float, ...]) -> bool:
    return all_different(values) and min(values) > 0


def _from_0(values: tuple[float, ...]) -> bool:
    return all_different(values) and min(values) >= 0


@dataclass(frozen=True, kw_only=True)
class PretrainingCandidate:
    """One point of the search.

    `lr` > 0 is Adam's rate, `alpha` ≥ 0 is λ, the weight of each auxiliary's loss, and `step` the length in
    epochs of the curriculum's first part; both are None for a network without auxiliaries. `repeat` counts
    candidates that are alike otherwise: each has its own weights and batches.
    """

    lr: float
    width: int
    alpha: float | None
    step: int | None
    repeat: int = 0


@dataclass(frozen=True, kw_only=True)
class Pretraining(Settings):
    """The networks that are tried for every method, and how they train (Adam at a constant rate, no decay).

    Args:
        name: how tables call it.
        lr, width, alpha, step: axes of the search; see `PretrainingCandidate`.
        batch_size: samples of every modality in a step; a set that is smaller is used whole.
        epochs: passes over the target; or
        steps: batches of the target. Either fixes how many samples of the target each method sees.
        curriculum: `joint`; `target-first`: the target alone for the first `step` of its epochs (the paper's
            text); `auxiliary-first`: the auxiliaries alone for the first `step` + 1 of all epochs, which come
            out of the target's budget (the public code, where -1 is no such part); `auxiliary-before`: the
            auxiliaries alone for `step` epochs of the target's length, before its own budget begins.
        layers, heads, feedforward, dropout, norm, positions: of the network, see `TransformerConfig`.
        clip: gradients longer than this are shortened to it; 0: never.

    Raises:
        InputError: a value out of range.
    """

    name: str
    # fmt: off
    lr: Annotated[tuple[float, ...], Setting("Learning rates.", takes=_POSITIVE, check=_positive)]
    width: Annotated[tuple[int, ...], Setting("Widths.", takes=_POSITIVE, check=_positive)]
    alpha: Annotated[tuple[float, ...], Setting("Weights.", takes=_FROM_0, check=_from_0)] = (1.0,)
    step: Annotated[tuple[int, ...], Setting(
        "Epochs.", takes="different numbers from 0 on (auxiliary-first: from -1 on)",
        check=lambda steps: all_different(steps) and min(steps) >= -1,
    )] = (0,)
    batch_size: Annotated[int, Setting("Samples.", takes="a number of at least 1", check=at_least(1))] = 32
    epochs: Annotated[int, Setting("Passes over the target.")] = 0
    steps: Annotated[int, Setting("Batches of the target.")] = 0
    curriculum: Annotated[str, Setting(
        "Which modality trains when.",
        choices=("joint", "target-first", "auxiliary-first", "auxiliary-before"),
    )] = "joint"
    layers: Annotated[int, Setting("Layers of the trunk.")] = 5
    heads: Annotated[int, Setting("Attention heads.")] = 5
    feedforward: Annotated[int, Setting("Width between a block's two layers.")] = 2048
    dropout: Annotated[float, Setting("Share of values that is dropped.")] = 0.1
    norm: Annotated[str, Setting("Where blocks normalise.", choices=NORMS)] = "post"
    positions: Annotated[str, Setting("Which positions are added.", choices=POSITIONS)] = "none"
    clip: Annotated[float, Setting("Longest gradient.", takes="a number from 0 on", check=at_least(0))] = 0.0
    # fmt: on
    candidates: tuple[PretrainingCandidate, ...] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.epochs > 0) == (self.steps > 0):
            raise InputError(f"{self.name}: give either epochs or steps, a whole number from 1 on")
        if self.curriculum == "joint" and self.step != (0,):
            raise InputError(f"{self.name}: step has no meaning under the curriculum joint; leave it out")
        if min(self.step) < 0 and self.curriculum != "auxiliary-first":
            raise InputError(
                f"{self.name}: step is {min(self.step)}; below 0 it goes with auxiliary-first alone"
            )
        last = max(self.step) + (self.curriculum == "auxiliary-first")
        if self.epochs and self.curriculum in _INSIDE and last >= self.epochs:
            raise InputError(
                f"{self.name}: step goes to {max(self.step)} of {self.epochs} epochs, so that the "
                f"{_INSIDE[self.curriculum]} would never be trained on; make it smaller"
            )
        for width in self.width:
            self.network(width)
        found = tuple(
            PretrainingCandidate(lr=r, width=w, alpha=a, step=s)
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

    def candidates_for(
        self, *, auxiliaries: bool, weighted: bool = True, equal: bool = True
    ) -> tuple[PretrainingCandidate, ...]:
        """The candidates for a method to which λ (not `weighted`) or both axes mean nothing.

        With `equal` those that become alike are told apart by `repeat`: equal search for every method.
        Otherwise each is tried once, as in the paper.
        """
        seen: Counter[PretrainingCandidate] = Counter()
        found = []
        for candidate in self.candidates:
            if not auxiliaries:
                candidate = replace(candidate, alpha=None, step=None)
            elif not weighted:
                candidate = replace(candidate, alpha=None)
            if equal or not seen[candidate]:
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
    # Those of `protocols.toml`; batch size, feed-forward width and dropout are the public code's.
    "multibench": protocol_grid("paper", "multibench"),
    "multibench-authors": protocol_grid("authors", "multibench"),
    "multibench-large": protocol_grid("paper", "multibench-large"),
    "multibench-large-authors": protocol_grid("authors", "multibench-large"),
    # Paper B.4.1 names width, layers and heads. For the search it points to Table 5, the grid of linear
    # probes, whose learning rates these are; epochs and the rest are as above.
    "vision-text": {"lr": [1e-3, 1e-4], "width": [256], "epochs": 100, "layers": 4, "heads": 4},
}


def load_pretraining(name: str, *, alpha: tuple[float, ...] | None = None) -> Pretraining:
    """`quick`, `multibench`, `vision-text` and others of the protocols, or a TOML file with `Pretraining`'s
    keys (absent: as in quick).

    Args:
        alpha: values of λ to search instead of the grid's own.

    Raises:
        InputError: an unknown name, a file that is no TOML, unknown keys, values of another kind or out of
            range.
    """
    if name in _NAMED:
        values = dict(_NAMED[name])
    else:
        path = Path(name)
        if path.suffix != ".toml":
            raise unknown("grid of the objectives ssl and joint:", name, [*_NAMED, "FILE.toml"])
        found = read_toml(path, declared(Pretraining))
        values = {**_NAMED["quick"], **found}
        if "epochs" in found and "steps" not in found:
            values["steps"] = 0  # quick counts steps
        name = path.stem
    if alpha is not None:
        values["alpha"] = alpha
    return Pretraining(name=name, **values)
