"""Models from the hub's local cache, and what is said when they are not there and there is no network."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import huggingface_hub.errors
import numpy as np
import pytest

from uml_cache import InputError
from uml_extract import list_encoders, load_encoder
from uml_extract.encoders import hub

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], Path]:
    """Put a folder's files into an empty hub cache under a repository's name."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repository: str, folder: Path) -> Path:
        home = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        shutil.copytree(folder, home / "snapshots" / REVISION)
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text(REVISION)
        return home / "snapshots" / REVISION

    return put


@pytest.mark.parametrize("library", ["timm", "transformers", "open_clip"])
def test_a_folder_without_weights_is_said_before_the_hub_is_asked(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", asked)
    named = [name for name, entry in list_encoders().items() if entry.spec.library == library]
    named = [name for name in named if ":" not in name]
    assert len(named) > 2
    for name in named:
        with pytest.raises(InputError, match=r"weights .*: looked for model\.safetensors and found none"):
            load_encoder(name, weights=tmp_path, device="cpu")


def test_a_cached_model_needs_no_network(
    cache: Callable[[str, Path], Path], text_checkpoint: Callable[[str], Path]
) -> None:
    cache("someone/tiny", text_checkpoint("roberta"))
    encoder = load_encoder("hf:someone/tiny", device="cpu")
    local = load_encoder(str(text_checkpoint("roberta")), device="cpu")
    assert (encoder.spec.name, encoder.spec.model, encoder.spec.revision) == (
        "hf:someone/tiny",
        "someone/tiny",
        REVISION,
    )
    assert encoder.spec.weights_digest == local.spec.weights_digest
    assert local.spec.revision is None
    ids = encoder.prepare("a red star")
    np.testing.assert_array_equal(encoder.encode([ids]).pooled, local.encode([ids]).pooled)


def test_a_cached_timm_model_needs_no_network(
    cache: Callable[[str, Path], Path], vision_checkpoint: Path
) -> None:
    cache("someone/tiny-vit", vision_checkpoint)
    spec = load_encoder("timm:someone/tiny-vit", device="cpu").spec
    assert (spec.revision, spec.width, spec.transform["input_size"]) == (REVISION, 24, [3, 32, 32])


def test_a_snapshot_that_lacks_files_does_not_count(
    cache: Callable[[str, Path], Path], text_checkpoint: Callable[[str], Path]
) -> None:
    (cache("someone/tiny", text_checkpoint("bert")) / "model.safetensors").unlink()
    with pytest.raises(InputError, match="not in the local cache"):
        load_encoder("hf:someone/tiny", device="cpu")


def test_ids_need_a_checkpoint_s_tokenizer_and_no_weights(
    cache: Callable[[str, Path], Path], text_checkpoint: Callable[[str], Path]
) -> None:
    (cache("someone/tiny", text_checkpoint("bert")) / "model.safetensors").unlink()
    encoder = load_encoder("token-ids:someone/tiny")
    assert (encoder.spec.name, encoder.spec.revision) == ("token-ids:someone/tiny", REVISION)
    local = load_encoder(f"token-ids:{text_checkpoint('bert')}")
    assert encoder.prepare("a red star").tolist() == local.prepare("a red star").tolist()
    with pytest.raises(InputError, match="has no --pooling"):
        load_encoder("token-ids:someone/tiny", pooling="mean")


@pytest.mark.parametrize(
    "name", ["dinov2_vits14", "dino_vitb8", "bert_large", "open_llama_3b", "hf:some/one", "timm:a/b"]
)
def test_offline_one_line_at_once(name: str, cache: Callable[[str, Path], Path]) -> None:
    started = time.monotonic()
    with pytest.raises(InputError) as error:
        load_encoder(name)
    if not name.startswith("timm:"):  # which imports timm first
        assert time.monotonic() - started < 3
    for words in (name, "HF_HUB_OFFLINE is set", "--weights PATH", "hog-color", "hashed-ngrams"):
        assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("GatedRepoError", "needs a login"),
        ("RepositoryNotFoundError", "has no model 'some/one'"),
        ("RevisionNotFoundError", "the hub refused some/one: no such revision"),
    ],
)
def test_gated_and_missing_models_are_one_line(
    cache: Callable[[str, Path], Path], monkeypatch: pytest.MonkeyPatch, error: str, words: str
) -> None:
    asked: list[str | None] = []

    def refuse(repository: str, revision: str | None = None) -> list[str]:
        asked.append(revision)
        response: Any = SimpleNamespace(headers={}, request=None)
        raise getattr(huggingface_hub.errors, error)("no such revision\nsecond line", response=response)

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", refuse)
    with pytest.raises(InputError) as raised:
        load_encoder("hf:some/one@v2")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert asked == ["v2"]


def test_only_the_files_that_are_needed_are_fetched(
    cache: Callable[[str, Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fnmatch

    files = [
        *("config.json", "modules.json", "1_Pooling/config.json", "tokenizer.json", "onnx/model.onnx"),
        *("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "onnx/config.json"),
    ]
    fetched: list[set[str]] = []

    def fetch(
        repository: str, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]
    ) -> None:
        def any_of(name: str, patterns: list[str]) -> bool:
            return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

        fetched.append({n for n in files if any_of(n, allow_patterns) and not any_of(n, ignore_patterns)})

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda repository, revision: files)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    for name in ("hf:some/one", "open_clip:hf-hub:some/one"):
        with pytest.raises(InputError, match="no weights that can be used"):
            load_encoder(name)
    common = {"config.json", "modules.json", "1_Pooling/config.json", "tokenizer.json"}
    assert common <= fetched[0] & fetched[1]
    assert fetched[0] - common == {"model.safetensors"}
    assert fetched[1] - common == {"open_clip_model.safetensors"}


def test_a_hub_out_of_reach_is_noticed_in_time(
    cache: Callable[[str, Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class _Hanging:
        def head(self, url: str, timeout: float) -> None:
            time.sleep(5)

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: _Hanging())
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    started = time.monotonic()
    with pytest.raises(InputError, match="the hub cannot be reached"):
        load_encoder("dinov2_vits14")
    assert time.monotonic() - started < 3
