"""The encoder that a store was made with, loaded once more and checked to be the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uml_cache import InputError
from uml_extract.registry.registry import load_encoder
from uml_extract.spec import POOLINGS, TRANSFORMS, Encoder

_DECISIVE = ("modality", "library", "model", "weights_digest", "width", "pooling", "layer", "transform")
_WORDS = {"weights_digest": "weights (sha256)", "model": "model", "library": "library"}


def load_recorded(
    spec: Mapping[str, Any],
    variant: str | None = None,
    *,
    name: str | None = None,
    weights: Path | str | None = None,
    device: str = "auto",
) -> Encoder:
    """Load the encoder whose spec and variant a store recorded.

    Args:
        name: what to load instead of the recorded name: a model's folder, which no record can find again.
        weights: where its weights are now; those that the name stands for by default.

    Raises:
        InputError: what `load_encoder` raises; an encoder that gives other features than the recorded one.
    """
    wanted = str(spec["name"])
    if spec.get("library") == "imported":
        raise InputError(
            f"the features of {wanted} were imported, so uml has no encoder to make more of them; give "
            "features of new samples instead"
        )
    words = (variant or "").split("-")
    options: dict[str, Any] = {
        "pooling": next((word for word in words if word in POOLINGS), None),
        "layer": int(spec.get("layer", -1)),
        "transform": next((word for word in words if word in TRANSFORMS), "own"),
        "dtype": "float32" if "float32" in words else "float16",
    }
    try:
        encoder = load_encoder(name or _loadable(spec), weights=weights, device=device, **options)
    except InputError as error:
        if name is None and "unknown encoder" in str(error):
            raise InputError(
                f"encoder {wanted} was a folder, or comes with a package that is not here; say where it is: "
                "--encoder FOLDER (in Python encoder=…)"
            ) from None
        raise
    require_same(encoder.spec.to_json(), spec)
    return encoder


def require_same(found: Mapping[str, Any], recorded: Mapping[str, Any]) -> None:
    """Raise `InputError` where two specs do not stand for the same features."""
    found = json.loads(json.dumps(found))
    for field in _DECISIVE:
        ours, theirs = found.get(field), recorded.get(field)
        if field in recorded and ours != theirs and not (field == "width" and ours is None):
            what = _WORDS.get(field, field)
            raise InputError(
                f"encoder {found['name']} is not the one that the features were made with: its {what} is "
                f"{_short(ours)}, theirs was {_short(theirs)}; give the same one with --encoder and "
                "--weights "
                "(in Python encoder=, weights=)"
            )


def _loadable(spec: Mapping[str, Any]) -> str:
    """The recorded name; with the revision behind it where one was named."""
    name, model = str(spec["name"]), str(spec.get("model") or "")
    prefix, colon, _ = name.partition(":")
    return f"{prefix}:{model}" if colon and "@" in model else name


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 16 else f"{text[:12]}…"
