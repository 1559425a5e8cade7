"""What a table is made of: methods and their controls, rows, and differences between two of them.

The ladder from the plain linear layer to the full method (paper Table 2 compares its two ends only):

    unimodal → unimodal-deep → init-only → uml-init
           depth    initialisation   data on top of it
               unimodal-deep → uml
                          data
    unimodal → ridge → prior
       squared errors  data
               ridge → self-training
                 rows without labels

What the data adds is `uml` − `unimodal-deep`, `uml-init` − `init-only` and `prior` − `ridge`: same network,
same search, with and without the unpaired samples. The differences to the plain linear layer are given too.
Nothing is chosen on test: every pair of the ladder is listed, whichever way it falls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uml_evaluate.comparing.statistics import Interval
from uml_evaluate.comparing.verdict import CANNOT_TELL, seeds_to_tell

if TYPE_CHECKING:
    from uml_train import Shots

ALONE = ("unimodal", "ridge", "self-training", "unimodal-deep")
TRAINED_ON_DATA = ("uml", "uml-init", "prior")
FROM_RIDGE = ("self-training", "prior")
"""Methods that are `ridge` without what they learn from besides."""
TEXTBOOK = "textbook"
"""The rival that is a row of every table: the best of ridge and logistic regression."""
RIVALS = (
    TEXTBOOK,
    "logreg",
    "lda",
    "ncm",
    "ridge-text",
    "cross-modal",
    "tip-adapter",
    "tip-adapter-f",
    "lp++",
)
PROBES = ("knn", "zeroshot", "logreg-sklearn", *RIVALS)
"""Classifiers fitted to the same draws without a network; the rivals are those that papers report."""
ORDER = (
    "unimodal", "ridge", "self-training", "prior", "self-supervised", "unimodal-deep", "init-only", "uml",
    "uml-init", "auto",
    *PROBES,
)  # fmt: skip

Arm = tuple[str, str | None]
"""A method and its control, such as ("uml", None) or ("uml", "permuted")."""

LADDER: tuple[tuple[str, Arm, Arm], ...] = (
    ("deeper head", ("unimodal-deep", None), ("unimodal", None)),
    ("initialisation", ("init-only", None), ("unimodal-deep", None)),
    ("data, after initialisation", ("uml-init", None), ("init-only", None)),
    ("data", ("uml", None), ("unimodal-deep", None)),
    ("squared errors", ("ridge", None), ("unimodal", None)),
    ("rows without labels", ("self-training", None), ("ridge", None)),
    ("data, as a prior", ("prior", None), ("ridge", None)),
    ("all, to plain linear", ("self-training", None), ("unimodal", None)),
    ("all, to plain linear", ("prior", None), ("unimodal", None)),
    ("all, to plain linear", ("uml", None), ("unimodal", None)),
    ("all, to plain linear", ("uml-init", None), ("unimodal", None)),
    ("the best validated, to plain linear", ("auto", None), ("unimodal", None)),
)

SEQUENCES: tuple[tuple[str, Arm, Arm], ...] = (
    ("data", ("uml", None), ("unimodal", None)),
    ("labels, beside it", ("uml", None), ("self-supervised", None)),
)
"""The pairs of the objectives ssl and joint, whose `unimodal` is the same transformer on the target alone."""


def arm_name(arm: Arm) -> str:
    """`uml`, or `uml[permuted]` for a control."""
    method, control = arm
    return method if control is None else f"{method}[{control}]"


def arm_order(arm: Arm) -> tuple[int, str]:
    """Sorts methods as they are listed, each with its controls behind it."""
    method, control = arm
    return (ORDER.index(method) if method in ORDER else len(ORDER)), control or ""


def shots_order(shots: int | str) -> float:
    """Sorts numbers of shots: ascending, `all` last."""
    return float(shots) if isinstance(shots, int) else float("inf")


def interval_fields(interval: Interval) -> dict[str, Any]:
    """A difference with its interval and the verdict as JSON, and how many seeds would tell where these
    cannot."""
    needed = seeds_to_tell(interval) if interval.verdict == CANNOT_TELL else None
    return {
        "delta": interval.delta,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "seeds": interval.draws,
        "verdict": interval.verdict,
        "seeds_to_tell": needed,
    }


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method at one number of shots: its metric's mean over its seeds (`std` is None for one seed)."""

    dataset: str
    target: str
    auxiliaries: tuple[str, ...]
    encoders: dict[str, str]
    method: str
    control: str | None
    objective: str
    trunk: str
    normalize: str
    texts: int | str
    grid: str
    shots: Shots
    label_budget: int
    shared_width: int
    mean: float
    std: float | None
    seeds: int
    metric: str = "accuracy"

    @property
    def arm(self) -> Arm:
        """Method and control."""
        return self.method, self.control

    def to_json(self) -> dict[str, Any]:
        """The row as JSON, and `shared_width`: `unimodal-deep` has one row for each."""
        return {**vars(self), "auxiliaries": list(self.auxiliaries)}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """a − b in the metric's unit (accuracy: percentage points), paired by seed.

    `shots` is None where the difference is the mean over all shots of the comparison. `left_out` counts seeds
    that one side alone has. `role` says what the pair measures.
    """

    dataset: str
    target: str
    auxiliaries: tuple[str, ...]
    shots: Shots | None
    role: str
    a: str
    b: str
    interval: Interval
    left_out: int
    metric: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """The entry of `differences` as JSON."""
        return {
            "dataset": self.dataset,
            "target": self.target,
            "auxiliaries": list(self.auxiliaries),
            "shots": self.shots,
            "a": self.a,
            "b": self.b,
            "metric": self.metric,
            **interval_fields(self.interval),
        }


@dataclass(frozen=True, kw_only=True)
class AcrossDataSets:
    """One difference averaged over data sets; `interval.draws` is their number."""

    target: str
    auxiliaries: tuple[str, ...]
    shots: Shots
    role: str
    a: str
    b: str
    datasets: tuple[str, ...]
    interval: Interval
