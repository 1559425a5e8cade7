"""transformers audio encoders against direct calls of the library, on tiny models made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_models import fill
from uml_cache import InputError, open_features
from uml_extract import Encoder, Sound, extract, list_encoders, load_encoder, read_audio
from uml_manifests import Manifest

KINDS = ("wav2vec2", "hubert", "wavlm", "ast", "whisper", "clap")
WAVES = ("wav2vec2", "hubert", "wavlm")
SECONDS = (0.31, 0.05, 0.31, 0.5, 0.11)
GOLDEN: dict[str, list[float]] = {
    "wav2vec2": [55.33003, -4.740934, -4.819453, -4.738823],
    "hubert": [55.33003, -4.740934, -4.819453, -4.738823],
    "wavlm": [58.54253, 1.879927, 1.87596, 2.826507],
    "ast": [51.78046, -3.111166, -3.123281, 0.1061319],
    "whisper": [62.63906, -5.428066, -4.612717, -4.909247],
    "clap": [9.656187, -1.020859, -1.031909, -1.068814],
}
Make = Callable[[str], Path]


def _model(kind: str) -> Any:
    import transformers as hf

    common = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    if kind in WAVES:
        configs = {"wav2vec2": hf.Wav2Vec2Config, "hubert": hf.HubertConfig, "wavlm": hf.WavLMConfig}
        config = configs[kind](
            **common,
            conv_dim=(8, 8, 8),
            conv_kernel=(10, 3, 2),
            conv_stride=(5, 2, 2),
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
            vocab_size=32,
        )
        return hf.AutoModel.from_config(config), hf.Wav2Vec2FeatureExtractor(return_attention_mask=False)
    if kind == "ast":
        config = hf.ASTConfig(**common, max_length=64, num_mel_bins=32, patch_size=8)
        return hf.ASTModel(config), hf.ASTFeatureExtractor(max_length=64, num_mel_bins=32)
    if kind == "whisper":
        config = hf.WhisperConfig(
            d_model=24,
            encoder_layers=3,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_mel_bins=16,
            max_source_positions=100,
            vocab_size=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=3,
        )
        return hf.WhisperModel(config), hf.WhisperFeatureExtractor(feature_size=16, chunk_length=2)
    text = {**common, "vocab_size": 40, "max_position_embeddings": 40, "projection_dim": 16}
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "patch_embeds_hidden_size": 12,
        "hidden_size": 24,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "window_size": 4,
        "projection_dim": 16,
        "num_classes": 4,
    }
    config = hf.ClapConfig(
        text_config={**text, "type_vocab_size": 1, "pad_token_id": 0}, audio_config=audio, projection_dim=16
    )
    extractor = hf.ClapFeatureExtractor(
        feature_size=16, max_length_s=1, hop_length=480, truncation="rand_trunc", padding="repeatpad"
    )
    return hf.ClapModel(config), extractor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, text_checkpoint: Callable[[str], Path]) -> Make:
    """kind → a transformers folder with config, weights and feature extractor (CLAP: and tokenizer)."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("audio") / f"tiny-{kind}"
            model, extractor = _model(kind)
            fill(model)
            model.save_pretrained(folder)
            extractor.save_pretrained(folder)
            if kind == "clap":
                for file in ("tokenizer.json", "tokenizer_config.json"):
                    (folder / file).write_bytes((text_checkpoint("bert") / file).read_bytes())
            made[kind] = folder
        return made[kind]

    return make


def _load(checkpoint: Make, kind: str, **options: Any) -> Encoder:
    return load_encoder(str(checkpoint(kind)), device="cpu", **options)


def _tone(rate: int, seconds: float, seed: int = 0) -> np.ndarray:
    noise = np.random.Generator(np.random.Philox(seed)).standard_normal(round(rate * seconds))
    time = np.arange(len(noise)) / rate
    return (0.3 * np.sin(2 * np.pi * (300 + 90 * seed) * time) + 0.02 * noise).astype(np.float32)


def _prepared(encoder: Encoder) -> list[np.ndarray]:
    rate = encoder.input_rate
    return [encoder.prepare(Sound(_tone(rate, each, at), rate)) for at, each in enumerate(SECONDS)]


def _direct(folder: Path, kind: str, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One sound straight from the library: (tokens, pooled by the model itself or over all its tokens)."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    given = extractor(sound, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.inference_mode():
        if kind == "clap":
            out = model.get_audio_features(input_features=given["input_features"])
            return out.last_hidden_state[0].flatten(1).T.numpy(), out.pooler_output[0].numpy()
        if kind == "whisper":
            tokens = model.encoder(given["input_features"]).last_hidden_state[0]
            own = -(-len(sound) // 320)
            return tokens[:own].numpy(), tokens[:own].mean(dim=0).numpy()
        out = model(given["input_values"])
    tokens = out.last_hidden_state[0].numpy()
    return tokens, out.pooler_output[0].numpy() if kind == "ast" else tokens.mean(axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_features_equal_the_library_for_each_sound_alone(checkpoint: Make, kind: str) -> None:
    encoder = _load(checkpoint, kind)
    found = encoder.encode(_prepared(encoder), tokens=True)
    assert found.lengths is not None
    assert found.tokens is not None
    pieces = np.split(found.tokens, np.cumsum(found.lengths)[:-1])
    for at, seconds in enumerate(SECONDS):
        tokens, pooled = _direct(checkpoint(kind), kind, _tone(encoder.input_rate, seconds, at))
        np.testing.assert_allclose(pieces[at], tokens, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.pooled[at], pooled, rtol=1e-4, atol=1e-4)
    spec = encoder.spec
    assert (spec.modality, spec.library, spec.token_width) == ("audio", "transformers", 24)
    assert spec.width == found.pooled.shape[1] == (16 if kind == "clap" else 24)
    json.dumps(spec.to_json(), allow_nan=False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_embedding_does_not_depend_on_its_batch(checkpoint: Make, kind: str) -> None:
    encoder = _load(checkpoint, kind)
    prepared = _prepared(encoder)
    together = encoder.encode(prepared, tokens=True)
    assert together.tokens is not None
    assert together.lengths is not None
    alone = [encoder.encode([sound], tokens=True) for sound in prepared]
    np.testing.assert_allclose(
        np.concatenate([each.pooled for each in alone]), together.pooled, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        np.concatenate([each.tokens for each in alone]), together.tokens, rtol=1e-4, atol=1e-5
    )
    order = [3, 1, 4, 0, 2]
    reordered = encoder.encode([prepared[at] for at in order])
    np.testing.assert_allclose(reordered.pooled, together.pooled[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_token_counts_come_from_the_header(checkpoint: Make, sounds: Manifest, kind: str) -> None:
    encoder = _load(checkpoint, kind)
    counts = encoder.token_counts(sounds)
    assert counts.dtype == np.int32
    rows = range(0, 130, 9)
    prepared = [
        encoder.prepare(read_audio(sounds.path(row), encoder.input_rate, encoder.input_seconds))
        for row in rows
    ]
    found = encoder.encode(prepared, tokens=True).lengths
    assert np.array_equal(found, counts[list(rows)])
    assert (len(set(counts)) > 5) == (kind in (*WAVES, "whisper"))


@pytest.mark.parametrize("kind", KINDS)
def test_golden_values(checkpoint: Make, kind: str) -> None:
    encoder = _load(checkpoint, kind)
    pooled = encoder.encode(_prepared(encoder)[:3]).pooled
    found = [float(np.abs(pooled).sum()), *(pooled @ np.cos(np.arange(pooled.shape[1]))).tolist()]
    np.testing.assert_allclose(found, GOLDEN[kind], rtol=1e-4)


@pytest.mark.parametrize("kind", ["wav2vec2", "ast", "whisper"])
def test_inner_layers(checkpoint: Make, kind: str) -> None:
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    model = AutoModel.from_pretrained(checkpoint(kind)).eval()
    model = model.encoder if kind == "whisper" else model
    blocks = model.encoder.layers if kind == "wav2vec2" else model.layers
    kept: list[Any] = []
    blocks[1].register_forward_hook(
        lambda module, given, out: kept.append(out[0] if isinstance(out, tuple) else out)
    )
    encoder = _load(checkpoint, kind, layer=1, pooling="mean")
    sound = _tone(16_000, 0.3)
    extractor = AutoFeatureExtractor.from_pretrained(checkpoint(kind))
    with torch.inference_mode():
        model(extractor(sound, sampling_rate=16_000, return_tensors="pt")[extractor.model_input_names[0]])
    found = encoder.encode([encoder.prepare(Sound(sound, 16_000))], tokens=True)
    assert found.tokens is not None
    np.testing.assert_allclose(found.tokens, kept[0][0][: len(found.tokens)], rtol=1e-4, atol=1e-5)
    assert encoder.variant[0] == "layer1"
    with pytest.raises(InputError, match="layers 0 to 2"):
        _load(checkpoint, kind, layer=3)


def test_the_mean_of_ast_leaves_the_padding_out(checkpoint: Make) -> None:
    encoder = _load(checkpoint, "ast", pooling="mean")
    assert encoder.variant == ("mean",)
    sound = encoder.prepare(Sound(_tone(16_000, 0.2), 16_000))
    found = encoder.encode([sound], tokens=True)
    assert found.tokens is not None
    along, across = (64 - 8) // 10 + 1, (32 - 8) // 10 + 1
    grid = found.tokens[2:].reshape(across, along, 24)
    frames = 1 + (3200 - 400) // 160
    real = int(np.ceil(frames / 10))
    assert 0 < real < along
    np.testing.assert_allclose(found.pooled[0], grid[:, :real].mean(axis=(0, 1)), rtol=1e-4, atol=1e-5)


def test_sounds_shorter_than_a_window_are_padded_to_one(checkpoint: Make) -> None:
    for kind in KINDS:
        encoder = _load(checkpoint, kind)
        found = encoder.encode(
            [encoder.prepare(Sound(np.ones(3, np.float32), encoder.input_rate))], tokens=True
        )
        assert found.lengths is not None
        assert found.lengths[0] >= 1
        assert np.isfinite(found.pooled).all()


def test_long_sounds_are_cut_and_never_at_random(checkpoint: Make, tmp_path: Path) -> None:
    import soundfile

    encoder = _load(checkpoint, "clap")
    assert (encoder.input_rate, encoder.input_seconds) == (48_000, 1.0)
    soundfile.write(tmp_path / "long.wav", _tone(48_000, 2.5), 48_000)
    sound = read_audio(tmp_path / "long.wav", encoder.input_rate, encoder.input_seconds)
    first, second = (encoder.encode([encoder.prepare(sound)]).pooled for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("truncation", ["fusion"])
def test_clap_with_fusion_draws_nothing_either(checkpoint: Make, tmp_path: Path, truncation: str) -> None:
    import shutil

    folder = tmp_path / "fused"
    shutil.copytree(checkpoint("clap"), folder)
    import transformers as hf

    config = hf.AutoConfig.from_pretrained(folder)
    config.audio_config.enable_fusion = True
    model = hf.ClapModel(config)
    fill(model)
    model.save_pretrained(folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "truncation": truncation}))
    encoder = load_encoder(str(folder), device="cpu")
    sounds = _prepared(encoder)
    assert sounds[0][0].shape[0] == 4
    np.testing.assert_allclose(
        encoder.encode(sounds).pooled[:1], encoder.encode(sounds[:1]).pooled, rtol=1e-4, atol=1e-5
    )


def test_claps_towers_share_a_space(checkpoint: Make) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = checkpoint("clap")
    text = load_encoder(f"hf_text:{folder}", device="cpu")
    audio = _load(checkpoint, "clap")
    assert (text.spec.name, text.spec.modality, text.spec.width) == ("tiny-clap_text", "text", 16)
    assert text.spec.joint_space == audio.spec.joint_space is not None
    assert _load(checkpoint, "clap", pooling="mean").spec.joint_space is None
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["a red circle", "the small green star with a long low tone", "square"]
    with torch.inference_mode():
        expected = np.concatenate(
            [model.get_text_features(**tokenizer(each, return_tensors="pt")).pooler_output for each in texts]
        )
    prepared = [text.prepare(each) for each in texts]
    np.testing.assert_allclose(text.encode(prepared).pooled, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(text.encode(prepared[::-1]).pooled[::-1], expected, rtol=1e-4, atol=1e-5)
    listed = {name: entry.spec for name, entry in list_encoders().items()}
    assert listed["clap"].joint_space == listed["clap_text"].joint_space == "clap"


def test_weights_of_older_versions_of_torch_fit(checkpoint: Make, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "old"
    shutil.copytree(checkpoint("wav2vec2"), folder)
    state = load_file(folder / "model.safetensors")
    new, old = "parametrizations.weight.original", "weight_"
    renamed = {
        f"wav2vec2.{name}".replace(f"{new}0", f"{old}g").replace(f"{new}1", f"{old}v"): value
        for name, value in state.items()
        if name != "masked_spec_embed"
    }
    assert len(renamed) == len(state) - 1
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    encoder, same = load_encoder(str(folder), device="cpu"), _load(checkpoint, "wav2vec2")
    np.testing.assert_array_equal(
        encoder.encode(_prepared(encoder)).pooled, same.encode(_prepared(same)).pooled
    )


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("wav2vec2", {"pooling": "cls"}, "pools by mean"),
        ("clap", {"layer": 1}, "layers 0 to 0"),
        ("whisper", {"transform": "paper"}, "for images"),
    ],
)
def test_mistakes(checkpoint: Make, kind: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        _load(checkpoint, kind, **options)
    assert "\n" not in str(error.value)


def test_a_folder_without_its_extractor_is_refused(checkpoint: Make, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(checkpoint("ast"), tmp_path / "copy")
    (tmp_path / "copy" / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="preprocessor_config"):
        load_encoder(str(tmp_path / "copy"), device="cpu")


@pytest.mark.parametrize("name", ["clap", "clap_text", "ast", "wav2vec2", "hubert", "wavlm", "whisper"])
def test_offline_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set") as error:
        load_encoder(name)
    assert "\n" not in str(error.value)


def test_a_store_of_sounds(checkpoint: Make, sounds: Manifest, tmp_path: Path) -> None:
    encoder = _load(checkpoint, "hubert")
    features = open_features(extract(sounds, encoder, out=tmp_path, tokens=True, dtype="float32").store)
    assert np.array_equal(features.tokens.lengths, encoder.token_counts(sounds))
    alone = read_audio(sounds.path(77), encoder.input_rate, encoder.input_seconds)
    expected = encoder.encode([encoder.prepare(alone)]).pooled[0]
    np.testing.assert_allclose(features.pooled[77], expected, rtol=1e-4, atol=1e-5)
