"""Audio encoders of the transformers library by short name; any other of their kinds is `hf:ID`."""

from __future__ import annotations

from pathlib import Path

from uml_extract.encoders.hub import hub_model
from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec, Registered


def _load(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    if options.weights is None and not Path(rest).is_absolute():
        hub_model(spec.name, spec.model)  # before torch is imported: a missing checkpoint is said at once
    from uml_extract.encoders.transformers.audio_model import load_audio

    return load_audio(spec, rest, options)


def _load_text(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    if options.weights is None and not Path(rest).is_absolute():
        hub_model(spec.name, spec.model)
    from uml_extract.encoders.transformers.text_model import load_text_tower

    return load_text_tower(spec, rest, options)


def _audio(
    name: str, model: str, width: int, pooling: str, licence: str, millions: float, what: str
) -> Registered:
    spec = EncoderSpec(
        name=name,
        modality="audio",
        library="transformers",
        model=model,
        width=width,
        token_width=768,
        pooling=pooling,
        licence=licence,
        parameters=int(millions * 1e6),
        joint_space=name if pooling == "joint" else None,
    )
    return Registered(spec, _load, what)


_CLAP = EncoderSpec(
    name="clap_text",
    modality="text",
    library="transformers",
    model="laion/clap-htsat-unfused",
    width=512,
    token_width=768,
    pooling="joint",
    licence="Apache-2.0",
    parameters=125_300_000,
    joint_space="clap",
)
_ENTRIES = (
    _audio("clap", "laion/clap-htsat-unfused", 512, "joint", "Apache-2.0", 28.2, "CLAP (HTSAT), audio tower"),
    Registered(_CLAP, _load_text, "CLAP (HTSAT), text tower"),
    _audio(
        "ast",
        "MIT/ast-finetuned-audioset-10-10-0.4593",
        768,
        "cls",
        "BSD-3-Clause",
        86.2,
        "Audio Spectrogram Transformer",
    ),
    _audio("wav2vec2", "facebook/wav2vec2-base", 768, "mean", "Apache-2.0", 94.4, "wav2vec 2.0 base"),
    _audio("hubert", "facebook/hubert-base-ls960", 768, "mean", "Apache-2.0", 94.4, "HuBERT base"),
    _audio("wavlm", "microsoft/wavlm-base-plus", 768, "mean", "CC-BY-SA-3.0", 94.4, "WavLM base plus"),
    _audio("whisper", "openai/whisper-small", 768, "mean", "Apache-2.0", 88.2, "Whisper small's encoder"),
)
_TEXT = EncoderSpec(name="hf_text:ID", modality="text", library="transformers", model="", pooling="joint")

ENCODERS: dict[str, Registered] = {
    **{entry.spec.name: entry for entry in _ENTRIES},
    "hf_text:": Registered(_TEXT, _load_text, "text tower of CLAP or SigLIP in transformers"),
}
