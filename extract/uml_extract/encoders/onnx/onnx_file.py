"""An ONNX file as an image encoder. How pictures are prepared stands in the file or beside it.

Shapes: B images, H, W pixels, T tokens of an image, D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from uml_cache import InputError, parse_json
from uml_extract.encoders.builtin.plain import PlainEncoder
from uml_extract.spec import LAST_LAYER, Encoded, EncoderOptions, EncoderSpec

if TYPE_CHECKING:
    from uml_manifests import Manifest

KEY = "uml.transform"
"""The entry of the file's metadata that holds the transform."""
_SHAPE = '{"size": [224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}'
_FILTERS = ("bilinear", "bicubic", "nearest")


class OnnxEncoder(PlainEncoder):
    """The first output of a session, (B, D), or the mean or first token of (B, T, D)."""

    batch_size = 32

    def __init__(
        self, spec: EncoderSpec, session: Any, transform: dict[str, Any], variant: tuple[str, ...]
    ) -> None:
        super().__init__(spec)
        self._session, self._transform, self.variant = session, transform, variant
        self._input = session.get_inputs()[0].name
        height, width = transform["size"]
        probe = self.encode([np.zeros((3, height, width), np.float32)])
        self.spec = replace(spec, width=probe.pooled.shape[1])

    def prepare(self, sample: Any) -> np.ndarray:
        """RGB PIL image → (3, H, W) float32: the shorter side scaled, the centre cut out, normalised."""
        from PIL import Image, ImageOps

        height, width = self._transform["size"]
        kind = getattr(Image.Resampling, self._transform["interpolation"].upper())
        values = np.asarray(ImageOps.fit(sample, (width, height), kind), dtype=np.float32) / 255.0
        mean, std = (np.array(self._transform[name], np.float32) for name in ("mean", "std"))
        return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))

    def token_counts(self, manifest: Manifest) -> np.ndarray:
        """An ONNX file gives no tokens here."""
        raise InputError(
            f"encoder {self.spec.name} gives one vector a picture and no tokens; leave --tokens out"
        )

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode (3, H, W) images."""
        (output, *_) = self._session.run(None, {self._input: np.stack(batch)})
        if output.ndim == 3:
            output = output[:, 0] if self.spec.pooling == "cls" else output.mean(axis=1)
        return Encoded(np.ascontiguousarray(output.reshape(len(batch), -1), dtype=np.float32))


def load_onnx(spec: EncoderSpec, rest: str, options: EncoderOptions) -> OnnxEncoder:
    """Load a file.

    Raises:
        InputError: no such file, none that onnxruntime reads, an option it does not have, no transform, or
            one with other keys than are known.
    """
    path = Path(rest).expanduser()
    if not path.is_file():
        raise InputError(f"encoder onnx:{rest}: there is no such file")
    for option, given in (
        ("--weights", options.weights is not None),
        ("--layer", options.layer != LAST_LAYER),
        ("--transform", options.transform != "own"),
    ):
        if given:
            raise InputError(f"encoder onnx:{rest} has no {option}; leave the option out")
    providers = ["CPUExecutionProvider"]
    if options.device not in ("auto", "cpu"):
        raise InputError(f"encoder onnx:{rest} runs on the CPU here, got --device {options.device}")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # onnxruntime has no common base of what it raises
        said = " ".join(str(error).split())[:160]
        raise InputError(f"encoder onnx:{rest}: onnxruntime cannot read it ({said})") from None
    transform = _transform(path, session)
    rank = len(session.get_outputs()[0].shape)
    if rank == 3 and options.pooling not in ("cls", "mean"):
        raise InputError(f"encoder onnx:{rest} gives tokens, (B, T, D): say --pooling cls or mean")
    if rank != 3 and options.pooling is not None:
        raise InputError(f"encoder onnx:{rest} gives one vector a picture; leave --pooling out")
    found = replace(
        spec,
        name=f"onnx:{path.name}",
        model=path.name,
        weights_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        pooling=options.pooling or "own",
        transform=transform,
    )
    return OnnxEncoder(found, session, transform, () if rank != 3 else (str(options.pooling),))


def _transform(path: Path, session: Any) -> dict[str, Any]:
    """`size` (H, W), `mean`, `std` and `interpolation`, from FILE.json beside it, else from its metadata."""
    beside = path.with_name(f"{path.name}.json")
    told = session.get_modelmeta().custom_metadata_map.get(KEY)
    if not beside.is_file() and told is None:
        raise InputError(
            f"encoder onnx:{path}: how are pictures prepared? write it into {beside}, such as {_SHAPE}, or "
            f"into the file's metadata under {KEY}"
        )
    where = beside if beside.is_file() else f"{path} ({KEY})"
    try:
        values = parse_json(beside.read_bytes() if beside.is_file() else told)
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
