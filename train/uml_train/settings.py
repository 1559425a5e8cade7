"""What `uml train` is asked to do: every choice that decides its numbers, checked, and its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from uml_cache.errors import InputError, unknown
from uml_train.heads.grid import RATIOS

METHODS = ("unimodal", "unimodal-deep", "init-only", "uml", "uml-init")
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "supervised": METHODS,
    "ssl": ("unimodal", "uml"),
    "joint": ("unimodal", "self-supervised", "uml"),
}  # and their methods
AUTO = "auto"  # of the run's other methods whichever validates best; trains nothing
WITH_AUXILIARIES = ("init-only", "uml", "uml-init")
WITH_AUXILIARY_LOSS = ("uml", "uml-init")
FROM_CLASS_MEANS = ("init-only", "uml-init")
CONTROLS = ("permuted", "random")
UNRELATED = "unrelated:"  # and the name of a data set
NORMALIZATIONS = ("auto", "none", "center", "l2", "center-l2", "standard", "shrunk")
NORMALIZE_ON = ("draw", "pool")
SAMPLINGS = ("shuffled", "balanced")
ALIGNED = ("normalized", "raw", "off")
TRANSFORMER = "transformer"
TRUNKS = ("linear", "mlp", TRANSFORMER)
LOADERS = ("auto", "device", "host", "stream")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "bfloat16", "float16")
STEPPED = {"grid": "quick", "normalize": "none"}  # what `auto` is where AdamW trains
DEFAULT_SHOTS: tuple[int, ...] = (1, 2, 4, 8, 16)

Shots = int | Literal["all"]
Texts = int | Literal["all", "mean"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of a run.

    Args:
        cache: the folder with feature stores.
        dataset: data set to train on; None where the cache holds one alone.
        target: `modality[.set][:encoder[@variant]]`; None takes image, else audio, else text.
        auxiliaries: configurations, each a tuple of such names; None takes every other modality of the data
            set, each one alone and all together.
        methods: some of `METHODS`, and `auto`: per cell whichever of the others validates best.
        controls: some of `CONTROLS`, and `unrelated:NAME` for the auxiliaries of another data set in the
            cache; run for the method `controlled`.
        shots: labelled target samples per class, integers or "all"; None takes those of 1, 2, 4, 8, 16
            that the data can give.
        seeds: each fixes a draw, an initialisation and the order of the batches.
        grid: `fair` (heads solved on all rows at once, the default of `auto` wherever it applies), `quick`,
            `paper` or a TOML file.
        alpha: weights of each auxiliary's loss that are searched; None takes the grid's.
        ratio: auxiliary batches per target batch that are searched; None takes the grid's.
        normalize: one of `NORMALIZATIONS`; `auto` is `shrunk` with the grid `fair` and `none` with others.
        refit: whether the selected head is solved once more on training and validation rows together; only
            with the grid `fair`.
        normalize_on: `draw` fits it on the rows that a model trains on, `pool` on all training rows of the
            target without their labels, which makes the comparison semi-supervised.
        sampling: `shuffled`, or `balanced` for batches with the classes in equal parts.
        aligned: what happens where target and first auxiliary come from encoders with a joint space: they
            need no projection, and logits are those of unit vectors (`normalized`) or of the vectors as they
            are (`raw`) times 100; `off` treats them like any others.
        trunk: `linear`, `mlp` for a hidden layer that the modalities share, or `transformer` for blocks over
            the stores' tokens; an auxiliary without tokens takes part with one vector a sample.
        loader: where features wait: `device` (float32 copies in memory, on CUDA there), `host` (mapped from
            the stores), `stream` (read ahead of use), or `auto`, by size. It changes no number.
        device: where heads train; `auto` takes CUDA where there is some.
        precision: of the products on CUDA; weights and moments stay float32.
        texts: auxiliary samples per class: "all", a number drawn at random, or "mean" (the class mean).
        class_map: CSV with the columns auxiliary, target where class names differ.
        splits: CSV with the columns id, split (train, val, test or empty) that stands for the target's own
            splits, such as a fold of ESC-50, or a published few-shot index (JSON) of its training and
            validation rows; rows it does not name are not used.
        objective: `supervised`; `ssl` (a transformer predicts the next token, see
            `uml_train.pretrain.pretraining`); or `joint`, both at once. The latter two need tokens, take
            `none` or `standard` as normalisation, and a `grid` of their own; `alpha` is their λ. Without
            `methods` they train all of theirs.
        checkpoint_minutes: how often a network of these two is saved while it trains.

    Raises:
        InputError: a value out of range, said with what is possible.
    """

    cache: Path
    dataset: str | None = None
    target: str | None = None
    auxiliaries: tuple[tuple[str, ...], ...] | None = None
    methods: tuple[str, ...] = METHODS
    controls: tuple[str, ...] = ()
    shots: tuple[Shots, ...] | None = None
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    grid: str = "auto"
    alpha: tuple[float, ...] | None = None
    ratio: tuple[float, ...] | None = None
    normalize: str = "auto"
    normalize_on: str = "draw"
    sampling: str = "shuffled"
    aligned: str = "normalized"
    trunk: str = "linear"
    loader: str = "auto"
    device: str = "auto"
    precision: str = "float32"
    texts: Texts = "all"
    class_map: Path | None = None
    splits: Path | None = None
    out: Path = Path("runs")
    objective: str = "supervised"
    checkpoint_minutes: float = 10.0
    refit: bool = False

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise unknown("objective", self.objective, OBJECTIVES)
        if self.objective != "supervised":
            self._check_sequences()
        else:
            _known("method", self.methods, (*METHODS, AUTO))
        if any(c == UNRELATED.rstrip(":") or c == UNRELATED for c in self.controls):
            raise InputError("the control `unrelated` needs a data set of the cache: unrelated:NAME")
        _known("control", (c for c in self.controls if not c.startswith(UNRELATED)), CONTROLS)
        _known("normalize-on", (self.normalize_on,), NORMALIZE_ON)
        _known("sampling", (self.sampling,), SAMPLINGS)
        _known("aligned", (self.aligned,), ALIGNED)
        _known("trunk", (self.trunk,), TRUNKS)
        _known("loader", (self.loader,), LOADERS)
        _known("device", (self.device,), DEVICES)
        _known("precision", (self.precision,), PRECISIONS)
        _known("normalisation", (self.normalize,), NORMALIZATIONS)
        if not set(self.methods) - {AUTO}:
            raise InputError(f"no method to train; name some of {', '.join(METHODS)}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise InputError(f"seeds are {self.seeds}; they must be different whole numbers from 0 on")
        if self.shots is not None:
            if not self.shots:
                raise InputError("no shots; give numbers from 1 on, or `all`")
            for k in self.shots:
                if k != "all" and k < 1:
                    raise InputError(f"shots is {k}; it must be at least 1, or `all`")
        if self.controls and self.controlled is None:
            raise InputError("controls need a method that trains on other modalities: uml or uml-init")
        for axis in ("alpha", "ratio"):
            values = getattr(self, axis)
            if isinstance(values, int | float):  # one number stands for an axis of one
                object.__setattr__(self, axis, (float(values),))
            elif values is not None and (not values or len(set(values)) < len(values)):
                raise InputError(f"{axis} is {values}; give different numbers")
        for value in self.alpha or ():
            if not 0 <= value < float("inf"):
                raise InputError(f"alpha is {value}; it must be finite and not negative")
        for value in self.ratio or ():
            if value not in RATIOS:
                raise InputError(f"ratio is {value:g}; it takes {', '.join(f'{r:g}' for r in RATIOS)}")
        if isinstance(self.texts, int) and self.texts < 1:
            raise InputError(f"texts is {self.texts}; it must be at least 1, `all` or `mean`")

    def _check_sequences(self) -> None:
        """What the objectives without a head bank can do."""
        if self.methods == METHODS:
            object.__setattr__(self, "methods", OBJECTIVES[self.objective])
        _known(f"method of the objective {self.objective}:", self.methods, OBJECTIVES[self.objective])
        if "permuted" in self.controls:
            raise InputError(
                f"the control permuted swaps classes, and the objective {self.objective} uses no classes of "
                "an auxiliary; its controls are random and unrelated:NAME"
            )
        for name, usual in STEPPED.items():
            if getattr(self, name) == "auto":
                object.__setattr__(self, name, usual)
        if self.normalize not in ("none", "standard"):
            raise InputError(
                f"the objective {self.objective} normalises tokens by none or standard, not {self.normalize}"
            )
        if self.precision == "float16":
            raise InputError(f"the objective {self.objective} takes --precision float32 or bfloat16")
        if not 0 <= self.checkpoint_minutes < float("inf"):
            raise InputError(f"--checkpoint-minutes is {self.checkpoint_minutes:g}; give a number from 0 on")
        for name in ("ratio", "normalize_on", "sampling", "aligned", "trunk", "texts", "class_map", "refit"):
            if getattr(self, name) != TrainSettings.__dataclass_fields__[name].default:
                option = name.replace("_", "-")
                raise InputError(f"--{option} means nothing under --objective {self.objective}; leave it out")

    @property
    def normalization(self) -> str:
        """How tables name the normalisation: `standard`, or `standard@pool` where it saw unlabelled rows."""
        seen = self.normalize_on == "pool" and self.normalize not in ("none", "l2")
        return f"{self.normalize}@pool" if seen else self.normalize

    @property
    def controlled(self) -> str | None:
        """The method that controls are run for: `uml`, whose difference to `unimodal-deep` is the data alone.

        Where `uml` is not trained it is `uml-init`, whose control starts from the altered data too.
        """
        return next((m for m in WITH_AUXILIARY_LOSS if m in self.methods), None)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values; `from_json` gives them back."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainSettings:
        fixed = dict(values)
        for key in ("cache", "out", "class_map", "splits"):
            fixed[key] = None if fixed.get(key) is None else Path(fixed[key])
        for key in ("methods", "controls", "seeds", "shots", "alpha", "ratio"):
            fixed[key] = None if fixed[key] is None else tuple(fixed[key])
        if fixed["auxiliaries"] is not None:
            fixed["auxiliaries"] = tuple(tuple(names) for names in fixed["auxiliaries"])
        return cls(**fixed)

    def stepped(self) -> TrainSettings:
        """The settings of what is trained in steps whatever it is: `auto` is what it was before."""
        return replace(self, **{k: v for k, v in STEPPED.items() if getattr(self, k) == "auto"})


def settings_hash(values: Any) -> str:
    """Eight hexadecimal digits that name a run: the same for the same choices over the same stores."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def parse_numbers(text: str, what: str) -> tuple[int, ...]:
    """`1-5`, `1,2,4` or a mix of both, in the order given and without repeats."""
    numbers: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise InputError(f"{what} is {text!r}; give numbers and ranges such as 1,2,4 or 1-5")
        if dash and int(high) < int(low):
            raise InputError(f"{what} is {text!r}; the range {part.strip()} runs backwards")
        numbers += range(int(low), int(high if dash else low) + 1)
    return tuple(dict.fromkeys(numbers))


def parse_shots(text: str, what: str) -> tuple[Shots, ...]:
    """Numbers as `parse_numbers` reads them, and `all`."""
    parts = [part.strip() for part in text.split(",")]
    numbers = ",".join(part for part in parts if part != "all")
    shots: list[Shots] = list(parse_numbers(numbers, what)) if numbers else []
    return (*shots, "all") if "all" in parts else tuple(shots)


def parse_values(text: str, what: str) -> tuple[float, ...]:
    """Numbers such as `0.5,1,2`."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{what} is {text!r}; give numbers such as 0.5,1,2") from None


def parse_texts(text: str) -> Texts:
    """`all`, `mean` or a number."""
    if text == "all" or text == "mean":
        return "mean" if text == "mean" else "all"
    if not text.isdigit():
        raise InputError(f"--texts is {text!r}; it takes a number, `all` or `mean`")
    return int(text)


def _known(kind: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
