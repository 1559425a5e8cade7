"""`UMLClassifier`: the head bank as a scikit-learn classifier on arrays, without stores or runs.

Shapes: n rows, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, check_random_state, validate_data

from uml_train.data.normalize import Normalizer
from uml_train.grid import load_grid
from uml_train.heads.bank import HeadBank
from uml_train.heads.export import Head, folded
from uml_train.heads.models import HeadModel, Samples, best_validated
from uml_train.heads.weights import class_mean_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_NAME = "target"


class UMLClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear classifier of one modality whose head also learns from unpaired samples of others (paper 4.2).

    Without auxiliaries it is one linear layer. With them it is `uml`: a projection into the space of the
    first auxiliary and a head that all modalities share; `init=True` starts the head's rows from the
    classes' mean embeddings in the first auxiliary (`uml-init`). The candidates of the grid are chosen on a
    part of the samples that is held out.

    Args:
        grid: `quick`, `paper` or a TOML file.
        alpha: weight of each auxiliary's loss.
        init: whether the head starts from the first auxiliary's class means.
        normalize: `none`, `center`, `l2` or `standard`, fitted to the training rows of each modality.
        validation_fraction: share of the rows that choose among the candidates, per class. Where a class is
            too small to be parted, the training rows choose.
        random_state: integer or `numpy.random.RandomState`; fixes the parts, the start and the batches.

    Attributes:
        classes_: (C,) class labels.
        head_: the fitted `Head`: `head_.to_onnx(path)` exports it.
        val_acc_: accuracy in percent on the rows that chose.
        candidate_: the hyperparameters chosen.
    """

    def __init__(
        self,
        *,
        grid: str = "quick",
        alpha: float = 1.0,
        init: bool = False,
        normalize: str = "standard",
        validation_fraction: float = 0.2,
        random_state: Any = None,
    ) -> None:
        self.grid = grid
        self.alpha = alpha
        self.init = init
        self.normalize = normalize
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        auxiliaries: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    ) -> UMLClassifier:
        """Fit to features X (n, D) and labels y (n,).

        Args:
            auxiliaries: name → (features (m, D'), labels (m,)) of other modalities, unpaired with X. Their
                labels are y's; rows with other labels are left out. The first one's width is the shared one.

        Raises:
            ValueError: fewer than two classes, an auxiliary without a common class.
        """
        features, labels = validate_data(self, X, y)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds one class, {self.classes_[0]!r}; a classifier needs at least two classes"
            )
        random = check_random_state(self.random_state)
        train, val = self._parts(codes, random)
        seed = int(random.randint(2**31 - 1))
        x, c = torch.tensor(features, dtype=torch.float32), torch.tensor(codes, dtype=torch.int64)
        normalizer = Normalizer.fit(self.normalize, x[train])
        others = [
            self._auxiliary(name, *rows, projected=i > 0)
            for i, (name, rows) in enumerate((auxiliaries or {}).items())
        ]
        head = None
        if self.init:
            if not others:
                raise ValueError("init=True needs auxiliaries, whose class means the head starts from")
            head, _ = class_mean_rows(others[0].features, others[0].labels, len(self.classes_), seed)
        width = others[0].dim if others else x.shape[1]
        target = Samples(name=_NAME, features=normalizer(x[train]), labels=c[train], projected=bool(others))
        grid = load_grid(self.grid, alpha=(self.alpha,))
        models = [
            HeadModel(
                target=target,
                auxiliaries=tuple(others),
                validation=(normalizer(x[val]), c[val]),
                classes=len(self.classes_),
                width=width,
                seed=seed + (candidate.repeat << 32),
                candidate=candidate,
                head=head,
                alpha=self.alpha,
                ratio=candidate.ratio or 1.0,
            )
            for candidate in grid.candidates_for(auxiliary_loss=bool(others))
        ]
        fitted = HeadBank(models, grid.schedule).fit()
        best = best_validated([f.val_acc for f in fitted], [f.best_step for f in fitted])
        parts = folded(fitted[best].weights, normalizer)
        self.head_ = Head(
            weight=parts["weight"].numpy(),
            bias=parts["bias"].numpy(),
            trunk=None,
            unit=normalizer.unit,
            classes=tuple(str(name) for name in self.classes_),
            about={"target": _NAME, "auxiliaries": [s.name for s in others], "normalize": self.normalize},
        )
        self.val_acc_ = fitted[best].val_acc
        self.candidate_ = models[best].candidate
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits (n, C); for two classes (n,), positive for the second."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Class labels (n,)."""
        chosen = self._logits(X).argmax(1)
        return self.classes_[chosen]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (n, C), columns in the order of `classes_`."""
        powers = self._logits(X)
        powers = np.exp(powers - powers.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        return self.head_.logits(np.asarray(validate_data(self, X, reset=False), dtype=np.float64))

    def _parts(self, codes: NDArray[np.int64], random: np.random.RandomState) -> tuple[Any, Any]:
        every = np.arange(len(codes))
        held = round(self.validation_fraction * len(codes))
        classes = len(self.classes_)
        if np.bincount(codes).min() < 2 or not classes <= held <= len(codes) - classes:
            return every, every
        return next(StratifiedShuffleSplit(1, test_size=held, random_state=random).split(every, codes))

    def _auxiliary(self, name: str, features: ArrayLike, labels: ArrayLike, *, projected: bool) -> Samples:
        values = check_array(features, dtype=np.float32, input_name=name)
        names = np.asarray(labels)
        if names.shape != values.shape[:1]:
            raise ValueError(f"{name}: {len(values)} rows and labels of shape {names.shape}")
        known = np.isin(names, self.classes_)
        if not known.any():
            raise ValueError(f"{name} has no row with a label of y")
        codes = torch.tensor(np.searchsorted(self.classes_, names[known]), dtype=torch.int64)
        rows = torch.from_numpy(values[known])
        normalized = Normalizer.fit(self.normalize, rows)(rows)
        return Samples(name=name, features=normalized, labels=codes, projected=projected)
