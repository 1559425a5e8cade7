"""The rendered shapes: real files, deterministic, atomic, unpaired, and neither trivial nor hopeless."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uml_cache.errors import InputError
from uml_manifests import Manifest, few_shot, get_benchmark, render_shapes, shapes_data

SMALL = {"train": 2, "val": 1, "test": 1, "texts": 3}
CLASSES = 48


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    return render_shapes(tmp_path_factory.mktemp("data") / "shapes", **SMALL)


def test_three_modalities_of_the_same_classes(small: dict[str, Manifest]) -> None:
    assert list(small) == ["image", "text", "audio"]
    assert len({manifest.classes for manifest in small.values()}) == 1
    classes = small["image"].classes
    assert len(set(classes)) == CLASSES
    assert "small red circle" in classes
    for modality in ("image", "audio"):
        assert small[modality].split_counts == {"train": 2 * CLASSES, "val": CLASSES, "test": CLASSES}
        assert np.bincount(small[modality].labels).tolist() == [4] * CLASSES
    assert small["text"].split_counts == {"none": 3 * CLASSES}
    assert {manifest.name for manifest in small.values()} == {"shapes"}


def test_default_sizes_are_the_published_ones() -> None:
    defaults = render_shapes.__kwdefaults__
    assert defaults is not None
    sizes = tuple(CLASSES * defaults[split] for split in ("train", "val", "test"))
    assert get_benchmark("shapes").sizes == sizes


def test_files_are_real(small: dict[str, Manifest]) -> None:
    with Image.open(small["image"].path(0)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (64, 64))
    with wave.open(str(small["audio"].path(0))) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (8000, 1, 2)
        assert sound.getnframes() == 4000
        samples = np.frombuffer(sound.readframes(4000), "<i2")
    assert 300 < np.abs(samples).max() < 32767
    assert all(text.endswith(".") and text[0].isupper() for text in small["text"].sources)
    assert len(set(small["text"].sources)) == len(small["text"])


def test_the_same_seed_gives_the_same_bytes(small: dict[str, Manifest], tmp_path: Path) -> None:
    first = small["image"].root.parent
    render_shapes(tmp_path / "again", **SMALL)
    assert fingerprint(tmp_path / "again") == fingerprint(first)
    render_shapes(tmp_path / "other", **SMALL, seed=1)
    other, same = fingerprint(tmp_path / "other"), fingerprint(first)
    assert not [name for name in same if name.endswith((".png", ".wav")) and same[name] == other[name]]


def test_a_complete_rendering_is_used_as_it_is(small: dict[str, Manifest]) -> None:
    folder = small["image"].root.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert len(shapes_data(folder)["image"]) == 4 * CLASSES
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_killed_rendering_does_not_look_complete(tmp_path: Path) -> None:
    out = tmp_path / "shapes"
    script = (
        "import os, uml_manifests.shapes.render as render\n"
        "real, count = render._save_sound, [0]\n"
        "def stop(*arguments):\n"
        "    count[0] += 1\n"
        "    if count[0] == 50:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    real(*arguments)\n"
        "render._save_sound = stop\n"
        f"render.render_shapes({str(out)!r}, train=1, val=1, test=1, texts=1)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert not out.exists()
    assert len(os.listdir(tmp_path)) == 1  # what it had written, under another name
    render_shapes(out, train=1, val=1, test=1, texts=1)
    assert os.listdir(tmp_path) == ["shapes"]


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files than rendered shapes"):
        render_shapes(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]
    with pytest.raises(InputError, match="at least 1 sample"):
        render_shapes(tmp_path / "new", test=0)
    with pytest.raises(InputError, match="seed must not be negative"):
        render_shapes(tmp_path / "new", seed=-1)


def test_attributes_can_be_read_off_each_modality(small: dict[str, Manifest]) -> None:
    image, text, audio = small["image"], small["text"], small["audio"]
    names = image.classes
    middle = {}
    for row, label in enumerate(image.labels.tolist()):
        with Image.open(image.path(row)) as picture:
            pixels = np.asarray(picture, dtype=float)[26:38, 26:38]
        middle.setdefault(names[label].split()[1], []).append(pixels.mean(axis=(0, 1)))
    red, green, blue = (np.mean(middle[colour], axis=0) for colour in ("red", "green", "blue"))
    assert red.argmax() == 0
    assert green.argmax() == 1
    assert blue.argmax() == 2
    energy: dict[str, list[float]] = {"small": [], "large": []}
    for row, label in enumerate(audio.labels.tolist()):
        with wave.open(str(audio.path(row))) as sound:
            samples = np.frombuffer(sound.readframes(4000), "<i2").astype(float)
        blocks = (samples.reshape(20, 200) ** 2).mean(axis=1)
        energy[names[label].split()[0]].append(float((blocks > 0.4 * blocks.max()).sum()))
    assert np.mean(energy["large"]) > 1.4 * np.mean(energy["small"])
    circles = [text.sources[row] for row in range(len(text)) if names[text.labels[row]].endswith("circle")]
    assert np.mean([any(word in line for word in ("circle", "disc", "dot")) for line in circles]) == 1.0


def test_sixteen_shots_can_be_drawn() -> None:
    defaults = render_shapes.__kwdefaults__
    assert defaults is not None
    labels = np.repeat(np.arange(CLASSES), defaults["train"] + defaults["val"])
    splits = np.tile(np.repeat([0, 1], [defaults["train"], defaults["val"]]), CLASSES)
    assert len(few_shot(labels, splits, shots=16, seed=1).train_rows) == 16 * CLASSES
