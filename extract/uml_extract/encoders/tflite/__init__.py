"""Image encoders that are a TensorFlow Lite (LiteRT) file: `tflite:FILE`."""

from __future__ import annotations

from uml_cache import InputError
from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec, Registered


def _load(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    try:
        from uml_extract.encoders.tflite.tflite_file import load_tflite
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("ai_edge_litert"):
            raise
        raise InputError(
            f"encoder {spec.name} needs ai-edge-litert: pip install 'uml-cache[tflite]'"
        ) from None
    return load_tflite(spec, rest, options)


_ANY = EncoderSpec(name="tflite:FILE", modality="image", library="tflite", model="", pooling="own")

ENCODERS = {
    "tflite:": Registered(_ANY, _load, "an image model in a TFLite file, with its transform beside it")
}
