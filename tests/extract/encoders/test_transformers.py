"""transformers encoders against direct calls of the library, on tiny models made on the spot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml_cache import InputError
from uml_cache.cli import main
from uml_extract import Encoder, load_encoder
from uml_manifests import Manifest

KINDS = ("bert", "roberta", "gpt2", "llama")
TEXTS = [
    "a large red circle",
    "there is a photo of a small green star with a long tone in the bright picture",
    "square",
    "one two three four five six seven",
    "the blue and the striped",
]
GOLDEN = {
    "bert": [58.80352, -3.263017, -2.843118, -3.486725],
    "roberta": [62.34409, -7.269147, -7.502763, -3.548713],
    "gpt2": [55.30097, 1.751155, -0.4074142, 0.7637419],
    "llama": [34.70263, -3.90773, 0.8732481, -2.360118],
}
Checkpoint = Callable[[str], Path]


def _load(checkpoint: Checkpoint, kind: str, **options: Any) -> Encoder:
    return load_encoder(str(checkpoint(kind)), device="cpu", **options)


def _pooled(encoder: Encoder, texts: list[str]) -> np.ndarray:
    return encoder.encode([encoder.prepare(text) for text in texts]).pooled


def _direct(folder: Path, text: str, pooling: str, layer: int = -1) -> np.ndarray:
    """One text, no padding, straight from the library."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        out = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
    hidden = out.last_hidden_state[0] if layer == -1 else out.hidden_states[layer + 1][0]
    return {"cls": hidden[0], "last": hidden[-1], "mean": hidden.mean(dim=0)}[pooling].numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_pooled_features_equal_the_library_for_each_text_alone(
    text_checkpoint: Checkpoint, kind: str
) -> None:
    default = "cls" if kind in ("bert", "roberta") else "mean"
    for pooling in (None, "mean", "last"):
        encoder = _load(text_checkpoint, kind, pooling=pooling)
        assert encoder.variant == (() if pooling in (None, default) else (pooling,))
        expected = np.stack([_direct(text_checkpoint(kind), text, pooling or default) for text in TEXTS])
        np.testing.assert_allclose(_pooled(encoder, TEXTS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_does_not_depend_on_its_batch(text_checkpoint: Checkpoint, kind: str) -> None:
    encoder = _load(text_checkpoint, kind, pooling="mean")
    together = _pooled(encoder, TEXTS)
    order = [3, 0, 4, 1, 2]
    reordered = np.empty_like(together)
    reordered[order] = _pooled(encoder, [TEXTS[i] for i in order])
    np.testing.assert_allclose(reordered, together, rtol=1e-4, atol=1e-5)
    alone = np.concatenate([_pooled(encoder, [text]) for text in TEXTS])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_golden_values(text_checkpoint: Checkpoint, kind: str) -> None:
    pooled = _pooled(_load(text_checkpoint, kind), TEXTS[:3])
    found = [float(np.abs(pooled).sum()), *(pooled @ np.cos(np.arange(24))).tolist()]
    np.testing.assert_allclose(found, GOLDEN[kind], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_texts_own_and_their_number_is_planned(
    text_checkpoint: Checkpoint, kind: str, texts: Manifest
) -> None:
    encoder = _load(text_checkpoint, kind)
    counts = encoder.token_counts(texts)
    assert counts.dtype == np.int32
    encoded = encoder.encode([encoder.prepare(text) for text in texts.sources[:9]], tokens=True)
    assert encoded.lengths is not None
    assert encoded.tokens is not None
    assert np.array_equal(encoded.lengths, counts[:9])
    assert encoded.tokens.shape == (counts[:9].sum(), 24)
    first = encoded.tokens[: counts[0]]
    np.testing.assert_allclose(
        first[-1], _direct(text_checkpoint(kind), texts.sources[0], "last"), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_inner_layers(text_checkpoint: Checkpoint, kind: str) -> None:
    encoder = _load(text_checkpoint, kind, layer=0, pooling="mean")
    expected = np.stack([_direct(text_checkpoint(kind), text, "mean", layer=0) for text in TEXTS])
    np.testing.assert_allclose(_pooled(encoder, TEXTS), expected, rtol=1e-4, atol=1e-5)
    assert encoder.variant[0] == "layer0"
    assert _load(text_checkpoint, kind, layer=2).variant == ()
    assert _load(text_checkpoint, kind, layer=-2).variant == ("layer1",)
    with pytest.raises(InputError, match="layers 0 to 2"):
        _load(text_checkpoint, kind, layer=-4)


def test_special_tokens_are_the_checkpoints_own(text_checkpoint: Checkpoint) -> None:
    first = {kind: _load(text_checkpoint, kind).prepare("a")[0] for kind in KINDS}
    assert first["bert"] == 2  # [CLS]
    assert first["roberta"] == 0  # <s>
    assert first["llama"] == 1  # <s>, BOS
    assert first["gpt2"] > 0  # GPT-2 has none


@pytest.mark.parametrize("kind", KINDS)
def test_long_texts_are_cut_at_the_models_longest_input(text_checkpoint: Checkpoint, kind: str) -> None:
    encoder = _load(text_checkpoint, kind)
    ids = encoder.prepare("red green blue " * 100)
    assert len(ids) == encoder.spec.transform["longest"] == 128
    assert np.isfinite(encoder.encode([ids]).pooled).all()


def test_texts_that_were_cut_off_are_counted(
    text_checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # [CLS], 126 words and [SEP] are 128 tokens: the first text just fits, and two lose their end.
    texts = ["red " * 126, "green " * 127, "blue " * 200, "a star"]
    rows = [f"{i},{text},{text[:3]}\n" for i, text in enumerate(texts)]
    (tmp_path / "d.csv").write_text("id,text,label\n" + "".join(rows))
    words = ["extract", "--encoder", str(text_checkpoint("bert")), "--data", str(tmp_path / "d.csv")]
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path / "feats"), "--json"])
    out, err = capsys.readouterr()
    assert out, err
    found = json.loads(out)
    assert found["lacking"] == {"but cut off, because they are longer than the encoder reads": 2}
    assert (found["used"], found["left_out"]) == (4, {})


def test_causal_models_have_no_cls(text_checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="left to right"):
        _load(text_checkpoint, "gpt2", pooling="cls")
    with pytest.raises(InputError, match="for images"):
        _load(text_checkpoint, "bert", transform="paper")


def test_a_language_models_checkpoint_loads_without_its_head(
    text_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(text_checkpoint("gpt2"), tmp_path / "lm")
    state = load_file(tmp_path / "lm" / "model.safetensors")
    whole = {f"transformer.{name}": value for name, value in state.items()}
    save_file(
        {**whole, "extra_head.weight": torch.zeros(3)},
        tmp_path / "lm" / "model.safetensors",
        {"format": "pt"},
    )
    found = _pooled(load_encoder(str(tmp_path / "lm"), device="cpu"), TEXTS)
    np.testing.assert_array_equal(found, _pooled(_load(text_checkpoint, "gpt2"), TEXTS))


def test_weights_that_do_not_fit_are_refused(text_checkpoint: Checkpoint) -> None:
    other = text_checkpoint("bert") / "model.safetensors"
    with pytest.raises(InputError, match="do not fit"):
        load_encoder(str(text_checkpoint("llama")), weights=other, device="cpu")


def test_weights_of_a_short_name_come_with_their_folder(text_checkpoint: Checkpoint) -> None:
    folder = text_checkpoint("bert")
    for weights in (folder, folder / "model.safetensors"):
        encoder = load_encoder("hf:some/where", weights=weights, device="cpu")
        assert encoder.spec.name == "hf:some/where"
        np.testing.assert_array_equal(_pooled(encoder, TEXTS), _pooled(_load(text_checkpoint, "bert"), TEXTS))


def test_folders_that_cannot_be_used(text_checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(text_checkpoint("bert"), folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_encoder(str(folder), device="cpu")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no-such-model"}))
    with pytest.raises(InputError, match=r"cannot read the config\.json"):
        load_encoder(str(folder), device="cpu")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "d_model": 8}))
    with pytest.raises(InputError, match="expected a text encoder"):
        load_encoder(str(folder), device="cpu")


def test_no_code_of_a_folder_is_run(text_checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, marker = tmp_path / "custom", tmp_path / "marker"
    shutil.copytree(text_checkpoint("bert"), folder)
    code = f"from pathlib import Path\nPath({str(marker)!r}).write_text('boom')\nclass C: pass\n"
    (folder / "custom.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "custom.C", "AutoModel": "custom.C"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "custom", "auto_map": auto}))
    with pytest.raises(InputError, match=r"cannot read the config\.json"):
        load_encoder(str(folder), device="cpu")
    assert not marker.exists()


def test_sentencepiece_checkpoints_keep_their_whitespace_rule(
    text_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    import sentencepiece

    folder = tmp_path / "llama"
    shutil.copytree(text_checkpoint("llama"), folder)
    (tmp_path / "text.txt").write_text("a red circle\na blue square\nthe green star\n" * 20)
    for keep, squeezed in ((False, "all"), (True, None)):
        sentencepiece.SentencePieceTrainer.train(
            input=str(tmp_path / "text.txt"),
            model_prefix=str(folder / "tokenizer"),
            vocab_size=22,
            remove_extra_whitespaces=not keep,
            minloglevel=2,
        )
        encoder = load_encoder(str(folder), device="cpu")
        assert encoder.spec.transform["squeezed_whitespace"] == squeezed
        same = np.array_equal(encoder.prepare("  a   red\n circle "), encoder.prepare("a red circle"))
        assert same is not keep
