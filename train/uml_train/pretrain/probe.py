"""The linear probe of a representation: logistic regression on embeddings (scikit-learn).

Shapes: n rows, W width, C classes. Embeddings have any floating type, labels any integer type.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

_ITERATIONS = {"standardised": 1_000, "raw": 200, "liblinear": 1_000}


class Probe:
    """Logistic regression (C = 1) fitted on embeddings (n, W) and classes (n,).

    Args:
        kind: `standardised` embeddings; `raw` ones with 200 iterations, or standardised ones with the solver
            `liblinear`, as the public code has them (CMU-MOSI: the latter).
    """

    def __init__(self, embeddings: np.ndarray, labels: np.ndarray, kind: str = "standardised") -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        self._mean, self._scale = np.zeros(embeddings.shape[1]), np.ones(embeddings.shape[1])
        if kind != "raw":
            self._mean = embeddings.mean(0, dtype=np.float64)
            deviation = embeddings.std(0, dtype=np.float64)
            self._scale = np.where(deviation > 0, deviation, 1.0)
        self._only = int(labels[0]) if len(set(labels.tolist())) == 1 else None
        self._model = LogisticRegression(
            max_iter=_ITERATIONS[kind], solver="liblinear" if kind == "liblinear" else "lbfgs"
        )
        if self._only is None:
            with warnings.catch_warnings():
                # Where it has not converged yet it is far beyond what changes a prediction.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model = self._model
                if kind == "liblinear" and len(set(labels.tolist())) > 2:
                    model = OneVsRestClassifier(model)  # liblinear itself knows two classes
                self._model = model.fit(self._mapped(embeddings), labels)

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        """(n,) int32 classes."""
        if self._only is not None:
            return np.full(len(embeddings), self._only, dtype=np.int32)
        return self._model.predict(self._mapped(embeddings)).astype(np.int32)

    def logits(self, embeddings: np.ndarray, classes: int) -> Tensor:
        """(n, C) float64 log-probabilities, at most 0; a class without a row that was fitted to has −∞."""
        found = torch.full((len(embeddings), classes), -torch.inf, dtype=torch.float64)
        if self._only is not None:
            found[:, self._only] = 0.0
        else:
            with np.errstate(divide="ignore"):
                own = torch.from_numpy(np.log(self._model.predict_proba(self._mapped(embeddings))))
            found[:, torch.from_numpy(self._model.classes_)] = own
        return found

    def accuracy(self, embeddings: np.ndarray, labels: np.ndarray) -> float:
        """Percent of the rows whose class is found; embeddings (n, W), labels (n,)."""
        return 100.0 * float((self.predict(embeddings) == labels).mean())

    def _mapped(self, embeddings: np.ndarray) -> np.ndarray:
        return (embeddings - self._mean) / self._scale
