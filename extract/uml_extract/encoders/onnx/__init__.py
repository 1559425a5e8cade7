"""Image encoders that are an ONNX file: `onnx:FILE`."""

from __future__ import annotations

from uml_cache import InputError
from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec, Registered


def _load(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    try:
        from uml_extract.encoders.onnx.onnx_file import load_onnx
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise InputError(
            f"encoder {spec.name} needs onnxruntime: pip install 'uml-cache[onnxruntime]'"
        ) from None
    return load_onnx(spec, rest, options)


_ANY = EncoderSpec(name="onnx:FILE", modality="image", library="onnx", model="", pooling="own")

ENCODERS = {"onnx:": Registered(_ANY, _load, "an image model in an ONNX file, with its transform beside it")}
