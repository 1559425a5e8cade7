"""Benchmarks on small trees of the published shape: found, compared, refused or taken in part."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uml_cache.errors import InputError
from uml_manifests import (
    Benchmark,
    build_benchmark,
    from_coop,
    get_benchmark,
    list_benchmarks,
    load_manifest,
    match_descriptions,
    read_descriptions,
    read_index,
    template_manifest,
)
from uml_manifests.benchmarks.layouts.esc import fold_splits, read_pairs

FORMATS = Path(__file__).parents[4] / "shared" / "data" / "formats"
WNIDS = [f"n{number:08d}" for number in range(1000)]
ISSUE = (
    "caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd ucf101 imagenet "
    "imagenet_v2 imagenet_sketch imagenet_a imagenet_r esc50 imagenet_esc19 imagenet_esc27 sarcasm mosi "
    "mosei humor mimic shapes gaussian"
)
TABLE_3 = {
    "caltech101": (100, 4128, 1649, 2465), "oxford_pets": (37, 2944, 736, 3669),
    "stanford_cars": (196, 6509, 1635, 8041), "oxford_flowers": (102, 4093, 1633, 2463),
    "food101": (101, 50500, 20200, 30300), "fgvc_aircraft": (100, 3334, 3333, 3333),
    "sun397": (397, 15880, 3970, 19850), "dtd": (47, 2820, 1128, 1692), "ucf101": (101, 7639, 1898, 3783),
}  # fmt: skip


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def classnames(folder: Path, count: int = 1000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{wnid} thing {number}\n" for number, wnid in enumerate(WNIDS[:count])]
    (folder / "classnames.txt").write_text("".join(lines))
    return folder


def of_size(name: str, classes: int, *sizes: int) -> Benchmark:
    """A benchmark with the sizes of a small tree in place of the published ones."""
    return replace(get_benchmark(name), classes=classes, sizes=sizes)


def esc_table(root: Path, categories: list[str], per_fold: int = 8) -> Path:
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for number in range(per_fold):  # classes and folds are mixed, as in the real file
        for fold in range(1, 6):
            for label, category in enumerate(categories):
                name = f"{fold}-{number}-A-{label}.wav"
                rows.append(f"{name},{fold},{label},{category},False,{number},A")
                touch(root, f"audio/{name}")
    (root / "meta").mkdir(parents=True)
    (root / "meta/esc50.csv").write_text("\n".join(rows) + "\n")
    return root


def test_every_data_set_of_the_paper_is_known_with_its_published_size() -> None:
    known = {benchmark.name: benchmark for benchmark in list_benchmarks()}
    assert set(ISSUE.split()) <= set(known)
    for name, (classes, *sizes) in TABLE_3.items():
        assert (known[name].classes, *known[name].sizes) == (classes, *sizes)
    for benchmark in known.values():
        assert benchmark.licence
        assert benchmark.layout
        assert benchmark.get or benchmark.builder == "rendered"
        for option in benchmark.options.values():
            assert option.help
            assert not option.values or option.default in option.values


def test_aircraft_lists(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", *(f"images/{n:03}.jpg" for n in range(6)))
    (root / "variants.txt").write_text("707-320\nA 300 B4\n\n")
    for split, part in enumerate(("train", "val", "test")):
        lines = f"{2 * split:03} A 300 B4\n{2 * split + 1:03} 707-320\n"
        (root / f"images_variant_{part}.txt").write_text(lines)
    with pytest.raises(InputError, match="2 classes instead of 100; 2 train samples instead of 3334"):
        build_benchmark(get_benchmark("fgvc_aircraft"), tmp_path)
    manifest = build_benchmark(get_benchmark("fgvc_aircraft"), tmp_path, partial=True).manifest
    assert manifest.classes == ("707-320", "A 300 B4")
    assert manifest.ids == [f"{n:03}.jpg" for n in range(6)]
    assert manifest.labels.tolist() == [1, 0] * 3
    assert manifest.splits.tolist() == [0, 0, 1, 1, 2, 2]
    assert manifest.path(0) == tmp_path / "data/images/000.jpg"
    (root / "images_variant_val.txt").write_text("001 707-32\n")
    with pytest.raises(
        InputError, match=r"images_variant_val\.txt, line 1: unknown variant '707-32'; did you"
    ):
        build_benchmark(get_benchmark("fgvc_aircraft"), tmp_path)
    with pytest.raises(InputError, match=r"families\.txt: no such file"):
        build_benchmark(get_benchmark("fgvc_aircraft"), tmp_path, options={"level": "family"})
    with pytest.raises(InputError, match="unknown value of option level: 'familie'; did you mean family"):
        build_benchmark(get_benchmark("fgvc_aircraft"), tmp_path, options={"level": "familie"})


def test_imagenet_from_folders_and_from_its_split_file(tmp_path: Path) -> None:
    root = classnames(tmp_path / "imagenet", 3)
    for wnid in WNIDS[:3]:
        touch(root, *(f"images/train/{wnid}/{wnid}_{n}.JPEG" for n in (10, 9)), f"images/val/{wnid}/v.JPEG")
    touch(root, "images/train/notes.txt", f"images/train/{WNIDS[0]}/.DS_Store")
    small = of_size("imagenet", 3, 6, 0, 3)
    built = build_benchmark(small, root)
    assert built.manifest.classes == ("thing 0", "thing 1", "thing 2")
    assert built.manifest.ids[:2] == [
        f"train/{WNIDS[0]}/{WNIDS[0]}_10.JPEG",
        f"train/{WNIDS[0]}/{WNIDS[0]}_9.JPEG",
    ]
    assert built.manifest.split_counts == {"train": 6, "test": 3}
    assert built.manifest.options == ("splits=folders",)
    assert "few-shot draws differ" in built.remarks[0]
    rows = [
        [path, label, f"thing {label}"]
        for path, label in zip(built.manifest.ids, [0, 0, 1, 1, 2, 2, 0, 1, 2], strict=True)
    ]
    split = {"train": rows[:3] + rows[4:5], "val": [rows[3], rows[5]], "test": rows[6:]}
    (root / "split_ImageNet.json").write_text(json.dumps(split))
    built = build_benchmark(small, root)
    assert built.manifest.split_counts == {"train": 4, "val": 2, "test": 3}
    assert built.manifest.options == ("splits=file",)
    (root / "classnames.txt").write_text("n00000000 other\nn00000001 thing 1\nn00000002 thing 2\n")
    with pytest.raises(InputError, match="class 0 is 'thing 0', but 'other' in classnames"):
        build_benchmark(small, root)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"images/train: no such folder; .*/images holds nothing|no such folder"),
        (("images.tar.gz",), r"images/train: no such folder"),
        (("images/train.tar", "images/x"), r"train: no such folder; train\.tar is there, not unpacked"),
        (("images/train/n00000000.tar", "images/val/n00000000/a.JPEG"), "1 tar files; unpack each"),
        (("images/train/n00000000/a.JPEG", "images/val/a.JPEG"), "1 pictures that are not sorted into class"),
        (
            ("images/train/cat/a.JPEG", "images/val/cat/a.JPEG"),
            "no class folders such as n01440764; found cat",
        ),
        (("images/train/n00000000/a.txt", "images/val/n00000000/a.txt"), "no pictures in its class folders"),
    ],
)
def test_half_unpacked_imagenet(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    root = classnames(touch(tmp_path / "imagenet", *names), 3)
    with pytest.raises(InputError, match=message) as caught:
        build_benchmark(get_benchmark("imagenet"), root)
    assert "\n" not in str(caught.value)


def test_the_right_folder_is_named_for_a_wrong_root(tmp_path: Path) -> None:
    classnames(tmp_path / "data" / "imagenet", 3)
    with pytest.raises(InputError, match=r"it is in .*data/imagenet; give that as --root"):
        build_benchmark(get_benchmark("imagenet"), tmp_path / "data")
    touch(tmp_path / "pets", "split_zhou_OxfordPets.json", "inner/images/a.jpg")
    (tmp_path / "pets/split_zhou_OxfordPets.json").write_text(
        '{"train": [["a.jpg",0,"a"]], "val": [], "test": []}'
    )
    with pytest.raises(InputError, match=r"no such folder, but it is in .*pets/inner; give that"):
        build_benchmark(get_benchmark("oxford_pets"), tmp_path / "pets")
    (tmp_path / "pets/images").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"a link to .*gone, which does not exist"):
        build_benchmark(get_benchmark("oxford_pets"), tmp_path / "pets")
    (tmp_path / "pets/images").unlink()
    (tmp_path / "pets/images").symlink_to(tmp_path / "pets/inner/images")
    assert len(build_benchmark(get_benchmark("oxford_pets"), tmp_path / "pets", partial=True).manifest) == 1


def test_classnames_that_are_none(tmp_path: Path) -> None:
    root = touch(tmp_path, "images/train/n00000000/a.JPEG", "images/val/n00000000/a.JPEG")
    for content, message in (
        (b"", "the file is empty"),
        (b"tench\n", r"line 1: expected `n01440764 tench`, got 'tench'"),
        (b"n00000000 a\nn00000000 b\n", "line 2: n00000000 occurs a second time"),
        (b"n00000000 caf\xe9\n", "line 1: not UTF-8"),
    ):
        (root / "classnames.txt").write_bytes(content)
        with pytest.raises(InputError, match=message):
            build_benchmark(get_benchmark("imagenet"), root)
    (root / "classnames.txt").write_bytes("\ufeffn00000000 caf\u00e9 au lait\r\n".encode())
    assert build_benchmark(of_size("imagenet", 1, 1, 0, 1), root).manifest.classes == ("caf\u00e9 au lait",)


def test_shifts_keep_imagenets_labels(tmp_path: Path) -> None:
    root = classnames(tmp_path)
    folder = "imagenetv2-matched-frequency-format-val"
    touch(root, *(f"{folder}/{number}/{n}.jpeg" for number in range(1000) for n in range(1)))
    v2 = build_benchmark(of_size("imagenet_v2", 1000, 0, 0, 1000), root).manifest
    assert v2.split_counts == {"test": 1000}
    assert [v2.labels[v2.ids.index(f"{n}/0.jpeg")] for n in (0, 10, 2, 999)] == [0, 10, 2, 999]
    touch(root, *(f"imagenet-a/{wnid}/a.jpg" for wnid in WNIDS[5:1000:5]), "imagenet-a/README.txt")
    with pytest.raises(
        InputError, match="199 classes have samples instead of 200; without any: thing 0, thing 1"
    ):
        build_benchmark(of_size("imagenet_a", 1000, 0, 0, 199), root)
    touch(root, "imagenet-a/n00000000/a.jpg")
    a = build_benchmark(of_size("imagenet_a", 1000, 0, 0, 200), root).manifest
    assert len(a.classes) == 1000
    assert a.labels.tolist() == list(range(0, 1000, 5))
    assert len(a.missing_classes) == 800


def test_esc_folds(tmp_path: Path) -> None:
    root = esc_table(tmp_path / "esc-50" / "ESC-50-master", ["dog", "crying_baby", "sea_waves"])
    built = build_benchmark(of_size("esc50", 3, 72, 24, 24), tmp_path / "esc-50")
    manifest = built.manifest
    assert (manifest.modality, manifest.classes) == ("audio", ("dog", "crying_baby", "sea_waves"))
    ((_, folder),) = built.write(tmp_path / "out")
    assert folder == tmp_path / "out/audio"
    assert load_manifest(folder).digest == manifest.digest
    files = sorted(path.name for path in (tmp_path / "out/folds").iterdir())
    assert files == [f"fold{fold}-k{k}.csv" for fold in range(1, 6) for k in (1, 2, 4)]
    rows = list(csv.DictReader((tmp_path / "out/folds/fold3-k2.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == manifest.ids
    parts = {
        part: [row["id"] for row in rows if row["split"] == part] for part in ("train", "val", "test", "")
    }
    assert sorted(parts["train"]) == sorted(f"3-{n}-A-{label}.wav" for n in (0, 1) for label in range(3))
    assert sorted(parts["val"]) == sorted(f"3-{n}-A-{label}.wav" for n in (2, 3) for label in range(3))
    assert len(parts["test"]) == 4 * 8 * 3
    assert not any(name.startswith("3-") for name in parts["test"])
    assert len(parts[""]) == 3 * 4
    (root / "audio/1-0-A-0.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"1 of 120 files are missing or empty, for example 1-0-A-0\.wav"):
        build_benchmark(of_size("esc50", 3, 72, 24, 24), tmp_path / "esc-50")
    with pytest.raises(InputError, match="class 0 has 1 clips in fold 1; 1 to train and 1 to validate"):
        fold_splits(np.array([0, 0]), np.array([1, 2]), 1, 1)


def test_imagenet_esc(tmp_path: Path) -> None:
    pairs = read_pairs("imagenet_esc19")
    assert (len(pairs), len(read_pairs("imagenet_esc27"))) == (19, 27)
    assert set(pairs.items()) < set(read_pairs("imagenet_esc27").items())
    assert pairs[7] == "rooster"
    root = tmp_path
    classnames(root / "imagenet")
    for index in [*pairs, 500]:
        touch(
            root, f"imagenet/images/train/{WNIDS[index]}/a.JPEG", f"imagenet/images/val/{WNIDS[index]}/v.JPEG"
        )
    esc_table(root / "esc-50", ["rain", *reversed(pairs.values())])
    small = of_size("imagenet_esc19", 19, 0, 0, 19)
    built = build_benchmark(small, root)
    pictures, sounds = built.manifests
    assert (pictures.store_name, sounds.store_name) == ("image", "audio")
    assert pictures.classes == sounds.classes == tuple(f"thing {index}" for index in pairs)
    assert pictures.split_counts == {"train": 19, "test": 19}
    assert f"train/{WNIDS[500]}/a.JPEG" not in pictures.ids
    assert pictures.labels[pictures.ids.index(f"val/{WNIDS[892]}/v.JPEG")] == list(pairs).index(892)
    assert len(sounds) == 19 * 40
    # The target number of a clip is behind the last dash; number 19 is `rooster`, the first pair, 0 is rain.
    assert sounds.labels[sounds.ids.index("1-0-A-19.wav")] == 0
    assert not any(name.endswith("-0.wav") for name in sounds.ids)
    own = build_benchmark(small, root, options={"names": "own"})
    assert own.manifests[1].classes == tuple(pairs.values())
    rows = list(csv.DictReader(own.found.texts["class_maps/image-to-audio.csv"].splitlines()))
    assert rows[0] == {"auxiliary": "thing 7", "target": "rooster"}
    assert template_manifest(sounds, "classname").sources[0] == "thing 7"


@pytest.mark.skipif(not FORMATS.is_dir(), reason="the shared real files are not here")
def test_the_real_files_of_oxford_pets(tmp_path: Path) -> None:
    for name in ("split_zhou_OxfordPets.json",):
        (tmp_path / name).symlink_to(FORMATS / name)
    whole = from_coop(FORMATS / "split_zhou_OxfordPets.json", tmp_path, "oxford_pets")
    touch(tmp_path / "images", *whole.sources)
    built = build_benchmark(get_benchmark("oxford_pets"), tmp_path)
    assert built.differences == ()
    for path in sorted((FORMATS / "indices/oxford_pets").iterdir()):
        assert len(read_index(path, built.manifest).train_rows) % 37 == 0
    descriptions = read_descriptions(FORMATS / "descriptors_oxford_pets.json")
    keys, unused = match_descriptions(built.manifest.classes, list(descriptions))
    assert None not in keys
    assert not unused
    for name in whole.sources[:40]:
        (tmp_path / "images" / name).unlink()
    with pytest.raises(InputError, match="40 of 7349 files are missing or empty"):
        build_benchmark(get_benchmark("oxford_pets"), tmp_path)
    assert len(build_benchmark(get_benchmark("oxford_pets"), tmp_path, partial=True).manifest) == 7309
