"""What a selected model says of the test rows: a class each, and how likely it finds every class.

Shapes: N test rows, C classes, n rows of a block.

Scores are log-probabilities: the logits minus the logarithm of the sum of their exponentials. They are kept
beside the predictions, as float32 up to `_EXACT` numbers, as float16 (a thousandth of a probability is told
apart) up to `MOST`, and beyond, where a cell's file would take more than 32 MB, not at all.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_EXACT = 250_000
MOST = 16_000_000


def scores_type(rows: int, classes: int) -> type[np.floating] | None:
    """The type in which scores of so many rows and classes are kept; None: they are not."""
    if rows * classes <= _EXACT:
        return np.float32
    return np.float16 if rows * classes <= MOST else None


class Answers:
    """Takes the logits of the test rows, block by block.

    Args:
        rows, classes: N, C.

    `predictions` is (N,) int32, the class with the largest logit; `scores` (N, C), or None where they would
    be too large.
    """

    def __init__(self, rows: int, classes: int) -> None:
        self.predictions: NDArray[np.int32] = np.zeros(rows, dtype=np.int32)
        kind = scores_type(rows, classes)
        self.scores: NDArray[np.floating] | None = None if kind is None else np.zeros((rows, classes), kind)

    @classmethod
    def of(cls, predictions: NDArray[np.int32], scores: NDArray[np.floating] | None) -> Answers:
        """What was kept of a model: (N,) predictions and (N, C) scores, if there are any."""
        found = cls(0, 0)
        found.predictions, found.scores = predictions, scores
        return found

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return self.predictions.nbytes + (0 if self.scores is None else self.scores.nbytes)

    def take(self, rows: slice | NDArray[np.integer], logits: Tensor) -> None:
        """Note what a model says of some rows, (n, C) logits on any device; −∞ rules a class out."""
        self.predictions[rows] = logits.argmax(1).cpu().numpy()
        if self.scores is not None:
            with np.errstate(over="ignore"):  # what float16 cannot hold is −∞
                self.scores[rows] = torch.log_softmax(logits.detach().double(), 1).cpu().numpy()

    def accuracy(self, labels: NDArray[np.integer]) -> float:
        """Percent of the rows (N,) whose class is the predicted one."""
        return 100.0 * float((self.predictions == labels).mean())
