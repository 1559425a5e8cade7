"""What `uml train` is asked to do: every choice that decides its numbers, checked, and its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from uml_cache.errors import InputError, unknown

METHODS = ("unimodal", "unimodal-deep", "init-only", "uml", "uml-init")
WITH_AUXILIARIES = ("init-only", "uml", "uml-init")
WITH_AUXILIARY_LOSS = ("uml", "uml-init")
FROM_CLASS_MEANS = ("init-only", "uml-init")
CONTROLS = ("permuted", "random")
NORMALIZATIONS = ("none", "center", "l2", "standard")
DEFAULT_SHOTS: tuple[int, ...] = (1, 2, 4, 8, 16)

Shots = int | Literal["all"]
Texts = int | Literal["all", "mean"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of a run (DESIGN "Training").

    Args:
        cache: the folder with feature stores.
        dataset: data set to train on; None where the cache holds one alone.
        target: `modality[.set][:encoder[@variant]]`; None takes image, else audio, else text.
        auxiliaries: configurations, each a tuple of such names; None takes every other modality of the data
            set, each one alone and all together.
        methods: some of `METHODS`.
        controls: some of `CONTROLS`, run for the method `controlled`.
        shots: labelled target samples per class, integers or "all"; None takes those of 1, 2, 4, 8, 16
            that the data can give.
        seeds: each fixes a draw, an initialisation and the order of the batches.
        grid: `quick`, `paper` or a TOML file.
        alpha: weight of each auxiliary's loss.
        normalize: some of `NORMALIZATIONS`, fitted on the rows that a model trains on.
        texts: auxiliary samples per class: "all", a number drawn at random, or "mean" (the class mean).
        class_map: CSV with the columns auxiliary, target where class names differ.

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
    grid: str = "quick"
    alpha: float = 1.0
    normalize: str = "none"
    texts: Texts = "all"
    class_map: Path | None = None
    out: Path = Path("runs")

    def __post_init__(self) -> None:
        _known("method", self.methods, METHODS)
        _known("control", self.controls, CONTROLS)
        _known("normalisation", (self.normalize,), NORMALIZATIONS)
        if not self.methods:
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
        if not self.alpha >= 0:
            raise InputError(f"alpha is {self.alpha}; it must not be negative")
        if isinstance(self.texts, int) and self.texts < 1:
            raise InputError(f"texts is {self.texts}; it must be at least 1, `all` or `mean`")

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
        for key in ("cache", "out", "class_map"):
            fixed[key] = None if fixed[key] is None else Path(fixed[key])
        for key in ("methods", "controls", "seeds", "shots"):
            fixed[key] = None if fixed[key] is None else tuple(fixed[key])
        if fixed["auxiliaries"] is not None:
            fixed["auxiliaries"] = tuple(tuple(names) for names in fixed["auxiliaries"])
        return cls(**fixed)


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
        numbers += range(int(low), int(high if dash else low) + 1)
    return tuple(dict.fromkeys(numbers))


def parse_shots(text: str, what: str) -> tuple[Shots, ...]:
    """Numbers as `parse_numbers` reads them, and `all`."""
    parts = [part.strip() for part in text.split(",")]
    numbers = ",".join(part for part in parts if part != "all")
    shots: list[Shots] = list(parse_numbers(numbers, what)) if numbers else []
    return (*shots, "all") if "all" in parts else tuple(shots)


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
