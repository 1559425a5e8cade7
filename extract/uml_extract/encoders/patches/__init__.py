"""Language models over image patches: `patches:MODEL`, or the folder of one that was fine-tuned."""

from __future__ import annotations

from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec, Registered


def _load(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    from uml_extract.encoders.patches.language_model import load_patches

    return load_patches(spec, rest, options)


_ANY = EncoderSpec(name="patches:MODEL", modality="image", library="transformers", model="", pooling="cls")

ENCODERS: dict[str, Registered] = {
    "patches:": Registered(_ANY, _load, "BERT or GPT-2 layers over image patches, once fine-tuned")
}
