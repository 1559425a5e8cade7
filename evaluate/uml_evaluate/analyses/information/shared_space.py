"""What `fisher` and `theory` look at: a head's target and auxiliary rows in the space that it reads.

Shapes: n rows, C classes, W that the head reads, D pairs of classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.analyses.finding import NotPossible
from uml_evaluate.analyses.reading import Reading, class_means, data_arm
from uml_evaluate.comparing.statistics import generator_for
from uml_evaluate.theory.informed_scores import HeadBatch
from uml_train import CellResult

MOST_PAIRS = 200
_MOST_ROWS = 4_000


@dataclass(frozen=True, eq=False, kw_only=True)
class SharedRows:
    """One head with its rows: the labelled target rows that it trained on, and those of each auxiliary."""

    result: CellResult
    head: NDArray[np.float64]
    target: HeadBatch
    auxiliaries: dict[str, HeadBatch]

    @property
    def means(self) -> NDArray[np.float64]:
        """(C, W) class means of the target."""
        return class_means(self.target.space, self.target.labels, len(self.head))


def shared_rows(reading: Reading) -> list[SharedRows]:
    """Every head of the method that trained on the data, with the rows that it trained on.

    Raises:
        NotPossible: no such method, or no head whose auxiliaries reach it.
    """
    arm = data_arm(reading)
    if arm is None:
        raise NotPossible("no head here was trained on other modalities; train with --method uml")
    found = []
    for result in reading.of(arm):
        source = reading.problem.target
        drawn = reading.draw(result)
        target = HeadBatch(
            space=reading.target_space(result, source.values(drawn).numpy()).astype(np.float64),
            labels=source.labels[drawn],
            scale=reading.shared(result).scale,
        )
        others = {}
        for label in reading.auxiliaries:
            positions = reading.texts(result, label)
            if len(positions) > _MOST_ROWS:
                rng = generator_for("shared rows", (len(positions),), label, result.cell.seed)
                positions = np.sort(rng.choice(positions, _MOST_ROWS, replace=False))
            space = reading.auxiliary_space(result, label, positions)
            if space is not None:
                others[label] = HeadBatch(
                    space=space.astype(np.float64),
                    labels=reading.problem.auxiliaries[label].labels[positions],
                    scale=reading.scale(result, label),
                )
        rows = reading.shared(result).rows.astype(np.float64)
        found.append(SharedRows(result=result, head=rows, target=target, auxiliaries=others))
    return found


def class_pairs(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(D, 2) pairs of the classes that have rows: all, or some at random where there are many."""
    present = np.unique(labels)
    pairs = np.array(list(combinations(present.tolist(), 2)), dtype=np.int64).reshape(-1, 2)
    if len(pairs) <= MOST_PAIRS:
        return pairs
    rng = generator_for("class pairs", (len(pairs),), seed)
    return pairs[np.sort(rng.choice(len(pairs), MOST_PAIRS, replace=False))]
