"""A TensorFlow Lite file as an image encoder. How pictures are prepared stands in the file or beside it.

Shapes: B images, H, W pixels, T tokens of an image, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from uml_cache import InputError, available_cores
from uml_extract.encoders.picture_files import (
    KEY,
    PictureFileEncoder,
    file_spec,
    named_file,
    pooled_variant,
    read_transform,
)
from uml_extract.spec import Encoded, EncoderOptions, EncoderSpec


class TfliteEncoder(PictureFileEncoder):
    """The first output of an interpreter: (1, D), or the mean or first token of (1, T, D).

    Pictures go in one by one: most files are made for one, and so no vector depends on its neighbours.
    Quantised inputs and outputs are translated by the scale and the zero that the file names.
    """

    def __init__(
        self, spec: EncoderSpec, interpreter: Any, transform: dict[str, Any], variant: tuple[str, ...]
    ) -> None:
        super().__init__(spec, transform, variant)
        self._interpreter = interpreter
        self._input, self._output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        height, width = transform["size"]
        probe = self.encode([np.zeros((3, height, width), np.float32)])
        self.spec = replace(spec, width=probe.pooled.shape[1])

    def encode(self, batch: Sequence[np.ndarray], *, tokens: bool = False) -> Encoded:
        """Encode (3, H, W) float32 images."""
        return Encoded(np.stack([self._one(image) for image in batch]))

    def _one(self, image: np.ndarray) -> np.ndarray:
        last = self._input["shape"][-1] == 3
        values = (image.transpose(1, 2, 0) if last else image)[None]
        self._interpreter.set_tensor(self._input["index"], _quantised(values, self._input))
        self._interpreter.invoke()
        output = _real(self._interpreter.get_tensor(self._output["index"]), self._output)
        if output.ndim == 3:
            output = output[:, 0] if self.spec.pooling == "cls" else output.mean(axis=1)
        return np.ascontiguousarray(output.reshape(-1), dtype=np.float32)


def load_tflite(spec: EncoderSpec, rest: str, options: EncoderOptions) -> TfliteEncoder:
    """Load a file.

    Raises:
        InputError: no such file, none that LiteRT reads, one whose input is no picture, an option it does not
            have, no transform, or one of another size than the file takes.
    """
    path = named_file("tflite", rest, options)
    try:
        interpreter = Interpreter(str(path), num_threads=available_cores())
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, OSError) as error:
        said = " ".join(str(error).split())[:160]
        raise InputError(f"encoder tflite:{rest}: LiteRT cannot read it ({said})") from None
    transform = read_transform("tflite", path, _metadata(path))
    shape = tuple(int(side) for side in interpreter.get_input_details()[0]["shape"])
    sides = [shape[1:3], shape[2:]][shape[-1] != 3] if len(shape) == 4 and 3 in (shape[1], shape[-1]) else ()
    if sides != tuple(transform["size"]):
        height, width = transform["size"]
        raise InputError(
            f"encoder tflite:{rest} takes {shape}, and its transform makes pictures of {height} × {width}"
        )
    variant = pooled_variant(f"tflite:{rest}", len(interpreter.get_output_details()[0]["shape"]), options)
    return TfliteEncoder(file_spec(spec, "tflite", path, options, transform), interpreter, transform, variant)


def _metadata(path: Path) -> bytes | None:
    """The entry of the file's metadata that holds a transform."""
    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAsModel(path.read_bytes(), 0)
    for at in range(model.MetadataLength()):
        entry = model.Metadata(at)
        if entry.Name() == KEY.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None


def _quantised(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    kind = detail["dtype"]
    scale, zero = detail["quantization"]
    if not np.issubdtype(kind, np.integer):
        return values.astype(kind)
    limits = np.iinfo(kind)
    levels = np.rint(values / scale) + zero if scale else np.rint(values)
    return levels.clip(limits.min, limits.max).astype(kind)


def _real(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if np.issubdtype(values.dtype, np.integer) and scale:
        return np.asarray((values.astype(np.float32) - zero) * np.float32(scale))
    return values.astype(np.float32)
