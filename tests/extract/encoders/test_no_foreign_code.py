"""Folders of checkpoints bring numbers: no code of theirs runs, and nothing is fetched for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from tiny_checkpoints import put_clip, put_language, put_vit
from uml_cache import InputError
from uml_extract import load_encoder

_EVIL = "import os\nopen(os.environ['MARK'], 'w').write('ran')\nfrom transformers import BertTokenizer as T\n"


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "mark"


def _change(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(content | values))


def _open_clip(folder: Path, **text: Any) -> Path:
    import open_clip

    vision = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
    words = {"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    folder.mkdir()
    model = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=words)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": {**words, "hf_tokenizer_name": "x", **text}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]))
    settings = {"auto_map": {"AutoTokenizer": ["evil.T", None]}, "tokenizer_class": "T"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "evil.py").write_text(_EVIL)
    return folder


@pytest.mark.parametrize(
    "given",
    [
        {"trust_remote_code": True},
        {"bpe_path": "/etc/passwd"},
        {"clean": ["a"]},
        {"cache_dir": "x"},
        ["clean"],
    ],
)
def test_options_of_an_open_clip_tokenizer_are_few(tmp_path: Path, mark: Path, given: Any) -> None:
    folder = _open_clip(tmp_path / "clip", tokenizer_kwargs=given)
    with pytest.raises(InputError, match="refused"):
        load_encoder(f"open_clip_text:{folder}")
    assert not mark.exists()


def test_a_tokenizer_with_code_of_its_own(tmp_path: Path, mark: Path) -> None:
    folder = _open_clip(tmp_path / "clip")
    with pytest.raises(InputError):
        load_encoder(f"open_clip_text:{folder}")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"attn_implementation": "someone/kernel"}, "code of the hub"),
        ({"text_config": {"experts_implementation": "a/b:c"}}, "code of the hub"),
        ({"use_pretrained_backbone": True}, "weights from elsewhere"),
        ({"trust_remote_code": True}, "code of its own"),
        ({"auto_map": {"AutoConfig": "evil.C"}, "model_type": "of-its-own"}, "cannot read the config"),
    ],
)
def test_settings_of_a_transformers_folder(
    tmp_path: Path, mark: Path, values: dict[str, Any], words: str
) -> None:
    folder = put_language(tmp_path / "bert", "bert")
    (folder / "evil.py").write_text(_EVIL + "class C: pass\n")
    _change(folder / "config.json", **values)
    with pytest.raises(InputError, match=words):
        load_encoder(str(folder))
    assert not mark.exists()


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "[]", "5", "{", '{"model_type": 5}', '{"architecture": 5}', "null"]
)
def test_a_config_that_is_none(tmp_path: Path, content: str) -> None:
    folder = put_language(tmp_path / "bert", "bert")
    (folder / "config.json").write_text(content)
    with pytest.raises(InputError) as error:
        load_encoder(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["timm", "clip"])
def test_models_that_lie_elsewhere(tmp_path: Path, place: str) -> None:
    if place == "timm":
        folder = put_vit(tmp_path / "vit")
        _change(folder / "config.json", architecture="hf-hub:someone/model")
    else:
        folder = put_clip(tmp_path / "clip", "vit")
        content = json.loads((folder / "open_clip_config.json").read_text())
        content["model_cfg"]["vision_cfg"]["timm_model_name"] = "hf-hub:someone/model"
        (folder / "open_clip_config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="lies elsewhere"):
        load_encoder(f"open_clip:{folder}" if place == "clip" else str(folder))
