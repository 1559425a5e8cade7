"""A model: an encoder and a head. It predicts the classes of new samples, and is one file.

Shapes: n samples, D features, C classes. Class names are arrays of dtype object.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from uml.cells import numbers_of
from uml.embedding import Embedded, as_manifest
from uml.shown import shown
from uml_cache import InputError, write_atomic
from uml_evaluate import Predictor, open_predictor
from uml_extract import require_same
from uml_train import load_head

if TYPE_CHECKING:
    from uml_extract import Encoder
    from uml_train import Head


class Model:
    """A head with the encoder that its features come from. Made by `Result.best` and `load`."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def classes_(self) -> np.ndarray:
        """(C,) the class names, in the order of the columns of `predict_proba`."""
        return np.array(self._predictor.classes, dtype=object)

    @property
    def head(self) -> Head:
        """The head: `head.about` says how it was trained, `head.to_onnx(path)` exports it."""
        return self._predictor.head

    @property
    def encoder(self) -> Mapping[str, Any]:
        """The spec of the encoder."""
        return self._predictor.features.encoder

    def use(
        self, encoder: str | Encoder | None = None, *, weights: str | Path | None = None, device: str = "auto"
    ) -> Model:
        """Load the encoder from here: for a model whose encoder the recorded name does not find.

        Raises:
            InputError: it gives other features than the recorded one.
        """
        self._predictor.open(encoder=encoder, weights=weights, device=device)
        return self

    def predict(self, samples: Any, **options: Any) -> np.ndarray:
        """(n,) class names. Takes what `predict_proba` takes."""
        chosen = self.predict_proba(samples, **options).argmax(1)
        return self.classes_[chosen]

    def predict_proba(
        self,
        samples: Any,
        *,
        column: str | None = None,
        batch_size: int | Literal["auto"] = "auto",
        progress: bool = False,
    ) -> np.ndarray:
        """Probabilities (n, C) float32 in [0, 1], columns in the order of `classes_`.

        Args:
            samples: new samples in any form that `uml.embed` takes; what it gave; or features (n, D).
            column: the column of the samples in a table.

        Raises:
            InputError: a sample that cannot be read, features of another encoder, masked or not finite, or an
                encoder with other weights than the recorded one.
        """
        if isinstance(samples, Embedded):
            return self._of_embedded(samples)
        modality = self._predictor.features.modality
        if _are_features(samples, modality):
            return self._predictor.of_features(numbers_of(samples))
        if modality == "array":
            raise InputError(f"this model takes features (n, {self.head.features}), as it was fitted on such")
        manifest = as_manifest(samples, modality, column)
        encoder = str(self.encoder["name"])
        rows = [range(len(manifest))]
        with shown(progress).progress(len(manifest), " samples", encoder) as bar:
            (found,) = self._predictor.run(manifest, rows, batch_size=batch_size, progress=bar)
        _need_all(found.failed, len(manifest))
        order = np.argsort(found.rows)
        return found.probabilities[order]

    def save(self, path: str | Path) -> Path:
        """Write the model as one safetensors file, for `uml.load`, `uml predict` and `load_head`.

        The encoder's weights are not in it; their digest is.

        Raises:
            InputError: the path is a folder.
        """
        path = Path(path)
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file, such as {path / 'model.safetensors'}")
        write_atomic(path, self._predictor.path.read_bytes())
        return path

    def __repr__(self) -> str:
        about = self.head.about
        said = [f"{len(self.classes_)} classes", f"{self.encoder['name']} features"]
        said += [f"{name} {about[name]}" for name in ("method", "shots", "seed") if name in about]
        return f"Model({', '.join(said)})"

    def _of_embedded(self, samples: Embedded) -> np.ndarray:
        require_same(samples.encoder, self.encoder)
        _need_all(samples.failed, len(samples))
        return self._predictor.of_features(samples.features)


def _are_features(samples: Any, modality: str) -> bool:
    """Whether these are features (n, D) and no samples: two dimensions of numbers."""
    kind = getattr(getattr(samples, "dtype", None), "kind", None)
    is_tensor = hasattr(samples, "detach") and samples.is_floating_point()
    return getattr(samples, "ndim", 0) == 2 and (kind == "f" or is_tensor)


def _need_all(failed: Mapping[int, str], rows: int) -> None:
    if failed:
        row, reason = next(iter(sorted(failed.items())))
        raise InputError(
            f"{len(failed)} of {rows} samples cannot be read; the first is sample {row}: {reason}; leave "
            "them out (`uml predict` gives such samples a reason instead)"
        )


def load(path: str | Path) -> Model:
    """Open what `Model.save` wrote; or the best model of a run, or of the newest run in a folder.

    Raises:
        InputError: neither a model nor a run.
    """
    path = Path(path)
    if path.is_file():
        return Model(Predictor(load_head(path), path))
    return Model(open_predictor(path)[0])
