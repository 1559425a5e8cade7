"""What the analyses read of a run: its cells, heads, and the features behind them.

Shapes: N test rows, n rows of a modality, D its features, W shared width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from uml_cache import InputError
from uml_evaluate.analyses.part import HeadsPart, arm_of
from uml_evaluate.comparing.rows import Arm, arm_name
from uml_train import (
    CellResult,
    Head,
    Normalizer,
    auxiliary_positions,
    draw_rows,
    load_head,
    open_run_problem,
    recorded_store,
)

if TYPE_CHECKING:
    from uml_train import Problem

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SharedHead:
    """A head with its way into the shared space. `rows` (C, W) are the class prototypes there."""

    rows: F32
    scale: float
    projection: F32 | None
    trunk: tuple[F32, F32] | None

    def space(self, normalized: torch.Tensor, projection: F32 | None) -> torch.Tensor:
        """What the head's rows are multiplied with: (n, W), from normalised features (n, D) of a modality.

        Both are float32."""
        z = normalized if projection is None else normalized @ torch.from_numpy(projection).T
        if self.trunk is not None:
            up, down = map(torch.from_numpy, self.trunk)
            z = z + (z @ up.T).relu() @ down.T
        return z


class Reading(HeadsPart):
    """One configuration of a run with heads, with its stores and heads, opened where they are needed."""

    @cached_property
    def problem(self) -> Problem:
        """The run's stores, opened."""
        return open_run_problem(self.run, self.cache)

    def require_unchanged(self) -> None:
        """Refuse what was read where a store has changed meanwhile: object storage knows no locks.

        Raises:
            InputError: a store is not what it was when the run was trained.
        """
        if "problem" in vars(self):
            for label in self.run.config["stores"]:
                recorded_store(self.run, label, self.cache)

    @property
    def unit(self) -> str:
        """The unit of a length in the target's feature space."""
        return f"units of {self.problem.target.encoder}'s raw features"

    @cached_property
    def test(self) -> tuple[F32, NDArray[np.int64]]:
        """Raw features (N, D) and labels (N,) of the test rows.

        Raises:
            InputError: the test rows are not those that the run was scored on.
        """
        source, rows = self.problem.target, self.problem.test
        labels = source.labels[rows]
        if not np.array_equal(labels, self.run.test_labels):
            raise InputError(
                f"the test rows of {source.features.path} are not those that {self.run.path} was scored on; "
                "train again"
            )
        return source.values(rows).numpy(), labels

    def draw(self, result: CellResult) -> NDArray[np.int64]:
        """Positions (n,) of the labelled target rows that a cell trained on."""
        return draw_rows(self.problem, result.cell.shots, result.cell.seed).train

    def texts(self, result: CellResult, label: str) -> NDArray[np.int64]:
        """Positions (n,) in an auxiliary's usable rows that a cell with auxiliaries trained on."""
        texts = result.candidates[result.selected].get("texts") or self.run.settings.texts
        return auxiliary_positions(self.problem.auxiliaries[label], result.cell.seed, texts)

    def head(self, result: CellResult) -> Head:
        """The folded classifier of raw features."""
        result.checked(result.head_path)
        return load_head(result.head_path)

    def shared(self, result: CellResult) -> SharedHead:
        """The head before folding, with the target's projection."""
        arrays = _arrays(result)
        trunk = (arrays["trunk.up"], arrays["trunk.down"]) if "trunk.up" in arrays else None
        projection = arrays.get(f"projection.{self.problem.target.label}")
        return SharedHead(arrays["head"], float(arrays["scales"][0]), projection, trunk)

    def target_space(self, result: CellResult, features: F32) -> F32:
        """Raw features (n, D) of the target in the space that the head reads, (n, W)."""
        arrays, head = _arrays(result), self.shared(result)
        label = self.problem.target.label
        mean, scale = (arrays.get(f"normalize.{part}.{label}") for part in ("mean", "scale"))
        normalizer = Normalizer(
            None if mean is None else torch.from_numpy(mean),
            None if scale is None else torch.from_numpy(scale),
            self.head(result).unit,
        )
        return head.space(normalizer(torch.from_numpy(features)), head.projection).numpy()

    def auxiliary_space(self, result: CellResult, label: str, positions: NDArray[np.int64]) -> F32 | None:
        """Rows of an auxiliary in the space that the head reads, (n, W), mapped as training maps them.

        None where the model has no way there: an auxiliary other than the first of a model that never saw it.
        """
        source = self.problem.auxiliaries[label]
        arrays, head = _arrays(result), self.shared(result)
        projection = arrays.get(f"projection.{label}")
        first = self.problem.auxiliaries[self.auxiliaries[0]]
        joint = first.joint_space is not None and source.joint_space == first.joint_space
        straight = label == self.auxiliaries[0] or (joint and self.run.settings.aligned != "off")
        if projection is None and not straight:
            return None
        unit = result.cell.aligned and joint and self.run.settings.aligned == "normalized"
        kind = "l2" if unit else self.run.settings.normalize
        normalizer = Normalizer.fit(kind, source.values(self.texts(result, label)))
        return head.space(normalizer(source.values(positions)), projection).numpy()

    def scale(self, result: CellResult, label: str) -> float:
        """What the logits of a modality are multiplied with."""
        streams = [self.problem.target.label, *result.cell.auxiliaries]
        return float(_arrays(result)["scales"][streams.index(label)])


def _arrays(result: CellResult) -> dict[str, F32]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(result.checked(result.head_path))
    except SafetensorError as error:
        raise InputError(f"{result.head_path} cannot be read ({error}); {result.remedy}") from None


def cell_fields(result: CellResult) -> dict[str, Any]:
    """Which cell a record of an analysis is of, as JSON values."""
    return {"method": arm_name(arm_of(result)), "shots": result.cell.shots, "seed": result.cell.seed}


def data_arm(reading: Reading) -> Arm | None:
    """The method that was trained on the unpaired data: `uml`, else `uml-init`."""
    return next((arm for arm in (("uml", None), ("uml-init", None)) if arm in reading.arms), None)


def mean_std_text(values: Sequence[float], digits: int = 2) -> str:
    """`1.23 ± 0.04`; the mean alone of one value, a dash of none."""
    if not len(values):
        return "–"
    array = np.asarray(values, dtype=np.float64)
    spread = f" ± {array.std(ddof=1):.{digits}f}" if len(array) > 1 else ""
    mean = f"{array.mean():.{digits}f}"
    return (mean.lstrip("-") if float(mean) == 0 else mean.replace("-", "−")) + spread


def seeds_text(reading: Reading) -> str:
    """`5 seeds`."""
    n = len({r.cell.seed for r in reading.cells})
    return f"{n} seed{'s' * (n != 1)}"


def finite(value: float) -> float | None:
    """The value, or None in place of infinity and NaN, which JSON does not have."""
    return float(value) if np.isfinite(value) else None


def class_means(features: NDArray[Any], labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """(C, D) mean features of each class, of any floating type; NaN rows for classes without any."""
    means = np.full((classes, features.shape[1]), np.nan)
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    for c, rows in zip(present, np.split(order, starts[1:]), strict=True):
        means[c] = features[rows].mean(0, dtype=np.float64)
    return means


def stratified(labels: NDArray[np.int64], limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions (m,) of at most about `limit` rows, as many of every class as its share; labels (n,)."""
    if len(labels) <= limit:
        return np.arange(len(labels))
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # classes together, at random within
    return np.sort(order[np.linspace(0, len(order) - 1, limit).astype(np.int64)])
