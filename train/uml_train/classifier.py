"""`UMLClassifier`: solved heads as a scikit-learn classifier on arrays, without stores or runs.

Shapes: n rows, D features, C classes, V parts of a cross-validation.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_is_fitted,
    check_random_state,
    validate_data,
)

from uml_cache import InputError, write_atomic
from uml_train.data.normalize import Normalizer
from uml_train.fullbatch.crossvalidated import (
    TARGET,
    Choice,
    LabelledRows,
    Split,
    altered,
    choose,
    deal,
    model_of,
)
from uml_train.fullbatch.search import solve
from uml_train.heads.export import Head, folded, linear_head_file, load_head
from uml_train.heads.models import Fitted, Samples
from uml_train.protocols.grid import Point
from uml_train.protocols.named_grids import load_grid
from uml_train.settings import AUTO, CONTROLS, METHODS, WITH_AUXILIARIES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


_SHOWN = 3
_FITTED = ("method_", "val_acc_", "point_", "normalize_", "control_scores_")


class UMLClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear classifier of one modality whose head also learns from unpaired samples of others (paper 4.2).

    Strength and loss are chosen by cross-validation, the normalisation being fitted inside; the chosen head
    is then solved on all rows.

    Args:
        method: one of the ladder: `unimodal` (one linear layer), `ridge` (the same by squared errors alone),
            `prior` (ridge whose class weights are alike where the auxiliaries' classes are), `unimodal-deep`
            (a projection and a head), `init-only`, `uml`, `uml-init`, or `auto` for whichever of them is best
            in cross-validation. None: `uml` with auxiliaries, `unimodal` without.
        controls: some of `permuted` and `random`: the same method and search with auxiliaries that know
            nothing of the classes; see `control_scores_`.
        alpha: weight of each auxiliary's loss.
        normalize: `none`, `center`, `l2`, `center-l2`, `standard` or `shrunk`, fitted to the training rows of
            each modality. `auto` is `shrunk`, or `standard` where that is better in cross-validation, as for
            features of unlike scales.
        cv: parts of the cross-validation, with the classes in equal shares where there are rows enough; or a
            splitter of scikit-learn's, or a list of (training, held-out) row numbers.
        refit: whether the chosen head is solved on all rows; otherwise it is the one that was trained without
            the first part.
        random_state: integer or `numpy.random.RandomState`; fixes the parts and the controls.

    Attributes:
        classes_: (C,) class labels.
        head_: the fitted `Head`: `head_.to_onnx(path)` exports it.
        method_: the method of the head.
        val_acc_: its accuracy in percent in cross-validation.
        point_: the loss and strength chosen, and of `prior` the auxiliary's share.
        normalize_: the normalisation of the head.
        control_scores_: accuracy in percent in cross-validation, by control.
    """

    def __init__(
        self,
        *,
        method: str | None = None,
        controls: Sequence[str] = (),
        alpha: float = 1.0,
        normalize: str = "auto",
        cv: Any = 5,
        refit: bool = True,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.controls = controls
        self.alpha = alpha
        self.normalize = normalize
        self.cv = cv
        self.refit = refit
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        auxiliaries: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    ) -> UMLClassifier:
        """Fit to features X (n, D) and labels y (n,).

        Args:
            sample_weight: (n,) how much each row counts; rows of weight 0 are as if they were not there.
            auxiliaries: name → (features (m, D'), labels (m,)) of other modalities, unpaired with X. Their
                labels are y's; rows with other labels are left out, with a warning. The first one's width is
                the shared one.

        Raises:
            ValueError: fewer than two classes, an auxiliary without a common class, a method that needs
                auxiliaries without any, masked values.
        """
        _refuse_masks(X=X, y=y, sample_weight=sample_weight)
        features, labels = validate_data(self, X, y)
        check_classification_targets(labels)
        weights = _check_sample_weight(sample_weight, features, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        features, labels, weights = features[kept], labels[kept], weights[kept]
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds {len(self.classes_)} class, {list(self.classes_)}; a classifier needs at least two"
            )
        random = check_random_state(self.random_state)
        splits = self._splits(codes, random, kept, X, y)
        seed = int(random.randint(2**31 - 1))
        others = [
            self._auxiliary(name, *given, projected=i > 0)
            for i, (name, given) in enumerate((auxiliaries or {}).items())
        ]
        every_rows = LabelledRows(
            x=torch.tensor(features, dtype=torch.float32),
            codes=torch.tensor(codes, dtype=torch.int64),
            importance=torch.tensor(weights, dtype=torch.float32),
            classes=len(self.classes_),
            others=tuple(others),
            normalize="shrunk" if self.normalize == "auto" else self.normalize,
            seed=seed,
        )
        # Rows are told apart by the strongest penalties where they say little, as many rows may.
        points = (
            Point(loss="cross-entropy", strength=0.03, alpha=self.alpha),
            *load_grid("fair", alpha=(self.alpha,)).points,
        )
        methods = self._methods(others)
        rows, best = self._best(methods, every_rows, splits, points)
        every = torch.ones(len(codes), dtype=torch.bool)
        train = every if self.refit else splits[0][0]
        model, normalizer = model_of(best.method, rows, train, every)
        (fitted,) = solve(model, [best.point], [best.factor], exact=True)
        self.head_ = self._head(fitted, normalizer, rows.normalize, [s.name for s in model.auxiliaries])
        self.method_, self.val_acc_ = best.method, best.accuracy
        self.point_ = {"loss": best.point.loss, "strength": best.point.strength}
        if best.point.prior is not None:
            self.point_["prior"] = best.point.prior
        self.normalize_ = rows.normalize
        controlled = best.method in WITH_AUXILIARIES
        self.control_scores_ = {
            control: choose(best.method, altered(control, rows), splits, points).accuracy
            for control in (self.controls if controlled else ())
        }
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits (n, C); for two classes (n,), positive for the second."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Class labels (n,), in the dtype of `classes_`."""
        chosen = self._logits(X).argmax(1)
        return self.classes_[chosen]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (n, C), columns in the order of `classes_`."""
        powers = self._logits(X)
        powers = np.exp(powers - powers.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def save(self, path: Path | str) -> Path:
        """Write the fitted classifier as one safetensors file, which `load_head` opens, too."""
        check_is_fitted(self)
        head, random = self.head_, self.random_state
        params = {**self.get_params(), "controls": list(self.controls)}
        dates = self.classes_.dtype.kind == "M"  # JSON has none
        params["random_state"] = random if random is None or isinstance(random, int) else None
        about = {
            **head.about,
            "classes": list(head.classes),
            "labels": (self.classes_.astype(str) if dates else self.classes_).tolist(),
            "labels_dtype": "object" if self.classes_.dtype == object else self.classes_.dtype.str,
            "params": params,
            "fitted": {name: getattr(self, name) for name in _FITTED},
        }
        if hasattr(self, "feature_names_in_"):
            about["feature_names"] = self.feature_names_in_.tolist()
        before = {
            k: None if v is None else torch.from_numpy(v)
            for k, v in (("mean", head.mean), ("scale", head.scale))
        }
        weight, bias = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
        path = Path(path)
        write_atomic(path, linear_head_file(weight, bias, Normalizer(**before, unit=head.unit), about))
        return path

    @classmethod
    def load(cls, path: Path | str) -> UMLClassifier:
        """Open what `save` wrote. Raises `InputError` where it is something else."""
        head = load_head(path)
        about = head.about
        if "labels" not in about:
            raise InputError(f"{path} is a head, not a saved classifier; open it with load_head")
        made = cls(**about["params"])
        made.head_ = head
        made.classes_ = np.array(about["labels"], dtype=about["labels_dtype"])
        made.n_features_in_ = head.features
        if "feature_names" in about:
            made.feature_names_in_ = np.array(about["feature_names"], dtype=object)
        for name, value in about["fitted"].items():
            setattr(made, name, value)
        return made

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        return self.head_.logits(np.asarray(validate_data(self, X, reset=False), dtype=np.float64))

    def _best(
        self, methods: Sequence[str], rows: LabelledRows, splits: list[Split], points: Sequence[Point]
    ) -> tuple[LabelledRows, Choice]:
        """The method that is best in cross-validation, the first of equals, and its normalisation."""

        def best(some: LabelledRows) -> Choice:
            found = [choose(method, some.normalized(), splits, points) for method in methods]
            return max(found, key=lambda choice: choice.score)

        usual = best(rows)
        if self.normalize == "auto":
            scaled = replace(rows, normalize="standard")
            other = best(scaled)
            if other.score > usual.score:
                return scaled.normalized(), other
        return rows.normalized(), usual

    def _splits(
        self, codes: NDArray[np.int64], random: np.random.RandomState, kept: NDArray[np.bool_], X: Any, y: Any
    ) -> list[Split]:
        """The splits of `cv`, over the rows that are kept."""
        if isinstance(self.cv, Integral):
            return deal(codes, int(self.cv), random)
        pairs = self.cv.split(X, y) if hasattr(self.cv, "split") else self.cv
        every = np.arange(len(kept))
        return [
            (torch.from_numpy(np.isin(every, train)[kept]), torch.from_numpy(np.isin(every, held)[kept]))
            for train, held in pairs
        ]

    def _methods(self, others: Sequence[Samples]) -> list[str]:
        method = self.method or ("uml" if others else "unimodal")
        if method not in (*METHODS, AUTO):
            raise ValueError(f"method is {method!r}; it takes {', '.join((*METHODS, AUTO))}")
        if method in WITH_AUXILIARIES and not others:
            raise ValueError(f"method={method!r} needs auxiliaries, samples of another modality")
        for control in self.controls:
            if control not in CONTROLS:
                raise ValueError(f"controls hold {control!r}; they are {', '.join(CONTROLS)}")
        return [m for m in METHODS if others or m not in WITH_AUXILIARIES] if method == AUTO else [method]

    def _head(self, fitted: Fitted, normalizer: Normalizer, normalize: str, auxiliaries: list[str]) -> Head:
        parts = {name: part.numpy() for name, part in folded(fitted.weights, normalizer).items()}
        about = {"target": TARGET, "auxiliaries": auxiliaries, "normalize": normalize}
        return Head(
            weight=parts["weight"],
            bias=parts["bias"],
            trunk=None,
            unit=normalizer.unit,
            classes=tuple(str(name) for name in self.classes_),
            about=about,
            mean=parts.get("mean"),
            scale=parts.get("scale"),
        )

    def _auxiliary(self, name: str, features: ArrayLike, labels: ArrayLike, *, projected: bool) -> Samples:
        _refuse_masks(**{name: features, f"label of {name}": labels})
        values = check_array(features, dtype=np.float32, input_name=name)
        names = np.asarray(labels)
        if names.shape != values.shape[:1]:
            raise ValueError(f"{name}: {len(values)} rows and labels of shape {names.shape}")
        known = np.isin(names, self.classes_)
        if not known.any():
            raise ValueError(f"{name} has no row with a label of y")
        if not known.all():
            shown = ", ".join(repr(one) for one in np.unique(names[~known]).tolist()[:_SHOWN])
            left = f"{name}: {(~known).sum():,} of {len(known):,} rows are left out"
            warnings.warn(f"{left}, y has no such label: {shown}", stacklevel=3)
        codes = torch.tensor(np.searchsorted(self.classes_, names[known]), dtype=torch.int64)
        return Samples(name=name, features=torch.from_numpy(values[known]), labels=codes, projected=projected)


def _refuse_masks(**given: Any) -> None:
    """scikit-learn reads what lies under a mask as if it were data."""
    for name, values in given.items():
        if count := int(np.ma.count_masked(values)) if isinstance(values, np.ma.MaskedArray) else 0:
            raise ValueError(f"{name} holds {count:,} masked values; leave their rows out, or fill them")
