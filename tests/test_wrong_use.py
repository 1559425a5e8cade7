"""Wrong use: every mistake gets one clear line that says what to do, exit status 1 or 2, and no traceback."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toy_stores import clusters, write_store
from uml_cache.cli import main

Prepare = Callable[[Path], None]


def _nothing(_: Path) -> None:
    return None


def _pictures(folder: Path, unreadable: int = 0) -> None:
    for name in ("red", "blue"):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            file = folder / "pictures" / name / f"{i}.png"
            Image.new("RGB", (16, 16), name).save(file)
            if i < unreadable:
                file.write_bytes(b"not a picture")


def _unreadable(folder: Path) -> None:
    _pictures(folder, unreadable=2)


def _file(name: str, content: str | bytes) -> Prepare:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


class _Bomb:
    """What a malicious checkpoint holds: code that runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("exploded"),)


def _malicious(folder: Path) -> None:
    _pictures(folder)
    (folder / "weights.pth").write_bytes(pickle.dumps(_Bomb()))


def _cache(folder: Path) -> None:
    """Pictures and texts of five classes in ./feats."""
    labels = np.tile(np.arange(5), 32)
    splits = np.repeat([0, 1, 2], [40, 20, 100])
    write_store(folder / "feats", "image", clusters(1, labels, 6, 1.0), labels, splits)
    words = np.tile(np.arange(5), 6)
    write_store(folder / "feats", "text", clusters(2, words, 8, 0.5), words, np.full(30, 255))


def _two_encoders(folder: Path) -> None:
    _cache(folder)
    labels = np.tile(np.arange(5), 32)
    splits = np.repeat([0, 1, 2], [40, 20, 100])
    write_store(folder / "feats", "image", clusters(1, labels, 7, 1.0), labels, splits, encoder="other")


def _two_data_sets(folder: Path) -> None:
    _cache(folder)
    labels = np.tile(np.arange(5), 32)
    write_store(
        folder / "feats", "image", clusters(1, labels, 7, 1.0), labels, np.full(160, 255), dataset="other"
    )


def _unsealed(folder: Path) -> None:
    labels = np.tile(np.arange(5), 200)
    write_store(folder / "feats", "image", clusters(1, labels, 6, 1.0), labels, np.full(1000, 255), tasks=1)


def _no_common_class(folder: Path) -> None:
    _cache(folder)
    words = np.tile(np.arange(2), 6)
    write_store(
        folder / "feats", "audio", clusters(1, words, 6, 1.0), words, np.full(12, 255), classes=("x", "y")
    )


def _loose_sentences(folder: Path) -> None:
    _cache(folder)
    write_store(folder / "feats", "text", np.ones((12, 6)), [-1] * 12, [255] * 12, classes=(), set="loose")


def _extracted(folder: Path) -> None:
    _pictures(folder)
    with pytest.raises(SystemExit):
        main(["extract", "--encoder", "pixels", "--data", "pictures", "--quiet"])


def _extracted_then_other_data(folder: Path) -> None:
    _extracted(folder)
    for picture in list((folder / "pictures").rglob("*.png")):
        picture.rename(picture.with_name(f"other-{picture.name}"))


def _flipped(folder: Path) -> None:
    _extracted(folder)
    shard = folder / "feats/pictures/image/pixels.zarr/pooled/c/0/0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)


def _out_is_a_file(folder: Path) -> None:
    _pictures(folder)
    (folder / "out").write_text("x")


def _grid_file(folder: Path) -> None:
    _cache(folder)
    (folder / "g.toml").write_text("lr = 'fast'")


def _run_damaged(folder: Path) -> None:
    _file("runs/broken-run/config.json", "{")(folder)


_EXTRACT = "extract --encoder pixels"
_CSV = f"{_EXTRACT} --data samples.csv"
_TEXT = "extract --encoder hashed-ngrams --data samples.csv"
_TRAIN = "train --cache feats"

CASES: dict[str, tuple[Prepare, str, int, str]] = {
    # name: (what lies in the folder, command line, exit status, what the line must say)
    "unknown command": (_nothing, "extrakt", 2, "did you mean extract"),
    "unknown option": (_nothing, "train --epochs 3", 2, "--epochs"),
    "option without value": (_nothing, "train --quiet --cache", 2, "--cache"),
    "no encoder": (_nothing, "extract", 2, "--encoder"),
    "unknown encoder": (_nothing, "extract --encoder dinov2_vits15", 2, "dinov2_vits14"),
    "unknown timm model": (_nothing, "extract --encoder timm:resnet51x", 2, "resnet51x"),
    "missing folder": (_nothing, f"{_EXTRACT} --data nowhere", 2, "nowhere"),
    "empty folder": (lambda p: (p / "e").mkdir(), f"{_EXTRACT} --data e", 2, "e"),
    "folder without media": (_file("d/red/notes.md", "x"), f"{_EXTRACT} --data d", 2, "d"),
    "pictures to a text encoder": (_pictures, "extract --encoder hashed-ngrams --data pictures", 2, "image"),
    "texts to an image encoder": (_file("samples.csv", "id,text,label\n1,a,x\n"), _CSV, 2, "text"),
    "csv without its columns": (_file("samples.csv", "name,file\n1,a.png\n"), _CSV, 2, "id"),
    "csv not utf-8": (_file("samples.csv", b"id,text,label\n1,caf\xe9,x\n"), _TEXT, 2, "UTF-8"),
    "csv empty": (_file("samples.csv", ""), _TEXT, 2, "empty"),
    "csv header only": (_file("samples.csv", "id,text,label\n"), _TEXT, 2, "no samples"),
    "csv duplicate id": (_file("samples.csv", "id,text,label\n1,a,x\n1,b,x\n"), _TEXT, 2, "'1'"),
    "csv unknown split": (_file("samples.csv", "id,text,label,split\n1,a,x,tset\n"), _TEXT, 2, "tset"),
    "csv ragged row": (_file("samples.csv", "id,text,label\n1,a\n"), _TEXT, 2, "line 2"),
    "too many unreadable": (_unreadable, f"{_EXTRACT} --data pictures", 1, "--max-errors"),
    "malicious weights": (
        _malicious,
        "extract --encoder timm:vit_tiny_patch16_224 --weights weights.pth --data pictures",
        2,
        "weights.pth",
    ),
    "missing weights": (
        _pictures,
        "extract --encoder timm:vit_tiny_patch16_224 --weights absent.safetensors --data pictures",
        2,
        "absent.safetensors",
    ),
    "weights of a built-in": (_pictures, f"{_EXTRACT} --weights w.pth --data pictures", 2, "weights"),
    "checkpoint not at hand": (_pictures, "extract --encoder dino_vitb16 --data pictures", 2, "--weights"),
    "unknown dtype": (_pictures, f"{_EXTRACT} --data pictures --dtype int8", 2, "float16"),
    "unknown pooling": (_pictures, f"{_EXTRACT} --data pictures --pooling max", 2, "max"),
    "unknown transform": (_pictures, f"{_EXTRACT} --data pictures --transform big", 2, "big"),
    "batch size 0": (_pictures, f"{_EXTRACT} --data pictures --batch-size 0", 2, "batch"),
    "max errors": (_pictures, f"{_EXTRACT} --data pictures --max-errors lots", 2, "max-errors"),
    "unknown device": (_pictures, "extract --encoder timm:vit_tiny_patch16_224 --device tpu", 2, "tpu"),
    "unknown executor": (_pictures, f"{_EXTRACT} --data pictures --executor cloud", 2, "local"),
    "name of no data": (_nothing, f"{_EXTRACT} --name birds", 2, "--data"),
    "out is a file": (_out_is_a_file, f"{_EXTRACT} --data pictures --out out", 1, "Not a directory: out"),
    "other data": (_extracted_then_other_data, f"{_EXTRACT} --data pictures", 2, "`--overwrite`"),
    "cache ls of nothing": (_nothing, "cache ls nowhere", 2, "nowhere"),
    "cache info of no store": (lambda p: (p / "e").mkdir(), "cache info e", 2, "no feature store"),
    "cache verify of no store": (_file("f", "x"), "cache verify f", 2, "f"),
    "no cache": (_nothing, _TRAIN, 2, "uml extract"),
    "empty cache": (lambda p: (p / "feats").mkdir(), _TRAIN, 2, "uml extract"),
    "unsealed store": (_unsealed, _TRAIN, 2, "uml extract"),
    "no common class": (_no_common_class, f"{_TRAIN} --aux audio", 2, "--class-map"),
    "texts without labels": (_loose_sentences, f"{_TRAIN} --aux text.loose", 2, "`uml data text toy --texts"),
    "several stores": (_two_encoders, _TRAIN, 2, "image:other"),
    "several data sets": (_two_data_sets, _TRAIN, 2, "--dataset"),
    "unknown data set": (_cache, f"{_TRAIN} --dataset toi", 2, "did you mean toy"),
    "unknown target": (_cache, f"{_TRAIN} --target picture", 2, "--target"),
    "unknown auxiliary": (_cache, f"{_TRAIN} --aux txt", 2, "did you mean text"),
    "unknown method": (_cache, f"{_TRAIN} --method umll", 2, "did you mean uml"),
    "unknown control": (_cache, f"{_TRAIN} --control permute", 2, "permuted"),
    "unknown grid": (_cache, f"{_TRAIN} --grid papr", 2, "paper"),
    "grid file": (_grid_file, f"{_TRAIN} --grid g.toml", 2, "lr"),
    "shots 0": (_cache, f"{_TRAIN} --shots 0", 2, "at least 1"),
    "shots not a number": (_cache, f"{_TRAIN} --shots few", 2, "--shots"),
    "too many shots": (_cache, f"{_TRAIN} --shots 64", 2, "64"),
    "seeds": (_cache, f"{_TRAIN} --seeds x", 2, "--seeds"),
    "texts": (_cache, f"{_TRAIN} --texts some", 2, "--texts"),
    "alpha": (_cache, f"{_TRAIN} --alpha -1", 2, "alpha"),
    "normalisation": (_cache, f"{_TRAIN} --normalize l1", 2, "l2"),
    "class map": (_cache, f"{_TRAIN} --class-map absent.csv", 2, "absent.csv"),
    "k 0": (_nothing, "eval --probe fewshot --k 0", 2, "at least 1"),
    "k not a number": (_nothing, "eval --probe fewshot --k four", 2, "four"),
    "unknown probe": (_nothing, "eval --probe magic", 2, "fewshot"),
    "no runs": (_nothing, "eval --probe fewshot --k 4", 2, "uml train"),
    "runs folder without runs": (lambda p: (p / "runs").mkdir(), "eval --probe fewshot", 2, "uml train"),
    "damaged run": (_run_damaged, "eval --probe fewshot", 2, "damaged"),
    "report of nothing": (_nothing, "report", 2, "uml train"),
    "unknown data name": (_nothing, "data show oxford_pet", 2, "oxford_pets"),
    "build from nothing": (_nothing, "data build birds --root nowhere", 2, "nowhere"),
    "texts of unknown templates": (_pictures, "data text pictures --templates fancy", 2, "vanilla"),
    "split of nothing": (_nothing, "data split birds --shots 4", 2, "birds"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _offline_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-hub"))


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare, command, status, says = CASES[name]
    prepare(tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main([*command.split(), *([] if "--quiet" in command else ["--quiet"])])
    printed = capsys.readouterr()
    assert leaving.value.code == status, printed.err
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert "unexpected" not in lines[0]
    assert "Traceback" not in printed.out
    assert not (tmp_path / "exploded").exists()


def test_a_malicious_file_would_have_exploded(tmp_path: Path) -> None:
    """The bomb above is live: unpickling it in the ordinary way runs its code."""
    _malicious(tmp_path)
    pickle.loads((tmp_path / "weights.pth").read_bytes())
    assert (tmp_path / "exploded").exists()


def test_damage_and_unsealed_stores_are_reported_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _flipped(tmp_path)
    with pytest.raises(SystemExit) as leaving:
        main(["cache", "verify", "feats/pictures/image/pixels.zarr"])
    assert leaving.value.code == 1
    assert "pooled" in capsys.readouterr().out
    _unsealed(tmp_path)
    with pytest.raises(SystemExit) as leaving:
        main(["cache", "verify", "feats/toy/image/made-up.zarr"])
    assert leaving.value.code == 1
    assert "not sealed" in capsys.readouterr().out


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["extract", "--encoder", "dinov2_vits15", "--debug"])
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("command", [(), ("cache",), ("data",)])
def test_a_group_alone_shows_its_help(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(list(command))
    printed = "".join(capsys.readouterr())
    assert printed.startswith("Usage: uml")
    assert len(printed.splitlines()) > 8
