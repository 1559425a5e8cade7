"""What image encoders that are one file share: how pictures are prepared, and which options they have.

Shapes: H, W pixels, D features.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uml_cache import InputError, parse_json
from uml_extract.encoders.builtin.plain import PlainEncoder
from uml_extract.spec import LAST_LAYER, EncoderOptions, EncoderSpec

if TYPE_CHECKING:
    from uml_manifests import Manifest

KEY = "uml.transform"
"""The entry of a file's metadata that holds the transform."""
_SHAPE = '{"size": [224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}'
_FILTERS = ("bilinear", "bicubic", "nearest")


class PictureFileEncoder(PlainEncoder):
    """Prepares pictures by a transform that stands in the file or beside it; subclasses add `encode`."""

    batch_size = 32

    def __init__(self, spec: EncoderSpec, transform: dict[str, Any], variant: tuple[str, ...]) -> None:
        super().__init__(spec)
        self._transform, self.variant = transform, variant

    def prepare(self, sample: Any) -> np.ndarray:
        """RGB PIL image → (3, H, W) float32: the shorter side scaled, the centre cut out, normalised."""
        from PIL import Image, ImageOps

        height, width = self._transform["size"]
        kind = getattr(Image.Resampling, self._transform["interpolation"].upper())
        values = np.asarray(ImageOps.fit(sample, (width, height), kind), dtype=np.float32) / 255.0
        mean, std = (np.array(self._transform[name], np.float32) for name in ("mean", "std"))
        return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """Not (N,) int32 counts but an `InputError`: these encoders give no tokens."""
        raise InputError(
            f"encoder {self.spec.name} gives one vector a picture and no tokens; leave --tokens out"
        )


def named_file(prefix: str, rest: str, options: EncoderOptions) -> Path:
    """The file that `prefix:rest` names, with the options that such an encoder has.

    Raises:
        InputError: no such file, or an option that it does not have.
    """
    path = Path(rest).expanduser()
    if not path.is_file():
        raise InputError(f"encoder {prefix}:{rest}: there is no such file")
    for option, given in (
        ("--weights", options.weights is not None),
        ("--layer", options.layer != LAST_LAYER),
        ("--transform", options.transform != "own"),
    ):
        if given:
            raise InputError(f"encoder {prefix}:{rest} has no {option}; leave the option out")
    if options.device not in ("auto", "cpu"):
        raise InputError(f"encoder {prefix}:{rest} runs on the CPU here, got --device {options.device}")
    return path


def pooled_variant(name: str, rank: int, options: EncoderOptions) -> tuple[str, ...]:
    """The variant by the pooling, which an output of several vectors a picture, (B, T, D), takes.

    Raises:
        InputError: no pooling for such an output, or one for an output (B, D).
    """
    if rank == 3 and options.pooling not in ("cls", "mean"):
        raise InputError(f"encoder {name} gives tokens, (B, T, D): give --pooling cls or mean")
    if rank != 3 and options.pooling is not None:
        raise InputError(f"encoder {name} gives one vector a picture; leave --pooling out")
    return () if rank != 3 else (str(options.pooling),)


def file_spec(
    spec: EncoderSpec, prefix: str, path: Path, options: EncoderOptions, transform: dict[str, Any]
) -> EncoderSpec:
    """The spec of one file: it is named after it, and known by its content."""
    return replace(
        spec,
        name=f"{prefix}:{path.name}",
        model=path.name,
        weights_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        pooling=options.pooling or "own",
        transform=transform,
    )


def read_transform(prefix: str, path: Path, told: str | bytes | None) -> dict[str, Any]:
    """`size` (H, W), `mean`, `std` and `interpolation`, from FILE.json beside it, else from its metadata.

    Args:
        told: what the metadata says.

    Raises:
        InputError: neither says it, or one says what is no transform.
    """
    beside = path.with_name(f"{path.name}.json")
    if not beside.is_file() and told is None:
        raise InputError(
            f"encoder {prefix}:{path} does not say how pictures are prepared: write that into {beside}, such "
            f"as {_SHAPE}, or into the file's metadata under {KEY}"
        )
    where = beside if beside.is_file() else f"{path} ({KEY})"
    try:
        values = parse_json(beside.read_bytes() if beside.is_file() else told or b"")
        found: dict[str, Any] = {
            "size": [int(side) for side in values.pop("size")],
            "mean": [float(one) for one in values.pop("mean")],
            "std": [float(one) for one in values.pop("std")],
            "interpolation": str(values.pop("interpolation", "bicubic")),
        }
        good = [len(found[name]) for name in ("size", "mean", "std")] == [2, 3, 3] and not values
        good = (
            good and found["interpolation"] in _FILTERS and min(found["std"]) > 0 and min(found["size"]) > 0
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise InputError(
            f"{where}: is no transform; expected {_SHAPE}, and interpolation, one of {', '.join(_FILTERS)}"
        )
    return dict(json.loads(json.dumps(found)))
