"""An ONNX file as an image encoder. How pictures are prepared stands in the file or beside it.

Shapes: B images, H, W pixels, T tokens of an image, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime

from uml_cache import InputError
from uml_extract.encoders.picture_files import (
    KEY,
    PictureFileEncoder,
    file_spec,
    named_file,
    pooled_variant,
    read_transform,
)
from uml_extract.spec import Encoded, EncoderOptions, EncoderSpec


class OnnxEncoder(PictureFileEncoder):
    """The first output of a session, (B, D), or the mean or first token of (B, T, D)."""

    def __init__(
        self, spec: EncoderSpec, session: Any, transform: dict[str, Any], variant: tuple[str, ...]
    ) -> None:
        super().__init__(spec, transform, variant)
        self._session = session
        self._input = session.get_inputs()[0].name
        height, width = transform["size"]
        probe = self.encode([np.zeros((3, height, width), np.float32)])
        self.spec = replace(spec, width=probe.pooled.shape[1])

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode (3, H, W) float32 images."""
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
    path = named_file("onnx", rest, options)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base of what it raises
        said = " ".join(str(error).split())[:160]
        raise InputError(f"encoder onnx:{rest}: onnxruntime cannot read it ({said})") from None
    told = session.get_modelmeta().custom_metadata_map.get(KEY)
    transform = read_transform("onnx", path, told)
    variant = pooled_variant(f"onnx:{rest}", len(session.get_outputs()[0].shape), options)
    return OnnxEncoder(file_spec(spec, "onnx", path, options, transform), session, transform, variant)
