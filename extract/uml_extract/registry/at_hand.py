"""Whether an encoder's weights are on this machine; nothing is loaded, and no network is used."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from uml_extract.registry.registry import list_encoders


def weights_at_hand(name: str, weights: Path | None = None) -> bool:
    """Whether `load_encoder` would find the weights of a registered encoder here.

    Args:
        weights: a file or folder that is given for it.
    """
    if weights is not None:
        return weights.exists()
    known = list_encoders()
    entry = known.get(name.removeprefix("patches:"))
    repository = name.removeprefix("patches:") if entry is None else entry.spec.model
    if entry is not None:
        if entry.spec.library == "numpy":
            return True
        if entry.package is not None and find_spec(entry.package.module) is not None:
            return True
        if entry.spec.library == "timm":
            repository = f"timm/{entry.spec.model}"
    return _cached(name, repository, None if entry is None else entry.spec.library)


def _cached(name: str, repository: str, library: str | None) -> bool:
    from uml_extract.encoders.hub import cached_model

    if library == "open_clip":
        from uml_extract.encoders.open_clip.towers import WEIGHT_NAMES, repository_of

        found = repository_of(name)
        return found is not None and cached_model(found, config=None, names=WEIGHT_NAMES) is not None
    if library == "torch" or repository.count("/") != 1:
        return False
    return cached_model(repository, config=None) is not None
