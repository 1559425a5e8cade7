"""A store that has grown holds what a store made afresh from the present data holds, row by row."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stopping import Stops
from uml_cache import (
    FLAGGED,
    REMOVED,
    REPLACED,
    InputError,
    WorkError,
    compare_stores,
    current_store,
    find_stores,
    open_features,
    remove_states,
    remove_store,
    store_info,
    store_path,
    verify,
)
from uml_cache.cli import main
from uml_cache.growing.collecting import collect
from uml_extract import Extracted, extract, samples_of
from uml_manifests import Manifest

_WORDS = ("red", "round", "small", "bird", "shell", "wing", "stone", "leaf")


def _texts(samples: dict[str, tuple[str, str]], splits: bool = True) -> Manifest:
    """A manifest of texts by id, each with its class; classes in order of their names."""
    classes = tuple(sorted({label for _, label in samples.values()}))
    return Manifest(
        name="notes",
        modality="text",
        classes=classes,
        root=Path("."),
        ids=list(samples),
        sources=[text for text, _ in samples.values()],
        labels=np.array([classes.index(label) for _, label in samples.values()]),
        splits=np.array([len(id) % 3 if splits else 255 for id in samples]),
    )


def _some(count: int, start: int = 0, label: str = "") -> dict[str, tuple[str, str]]:
    chance = random.Random(start)
    return {
        f"n{at}": (" ".join(chance.choices(_WORDS, k=6)), label or chance.choice(("a", "b", "c")))
        for at in range(start, start + count)
    }


def _as_fresh(place: Path, manifest: Manifest, folder: Path, **how: Any) -> None:
    """The current state and a store made afresh hold the same samples: features, class, split."""
    shutil.rmtree(folder, ignore_errors=True)
    fresh = extract(manifest, "hashed-ngrams", out=folder, **how)
    info = current_store(place)
    assert info is not None
    found = compare_stores(fresh.store, info.path)
    assert (found.new, found.removed, found.changed) == ((), (), ())
    assert found.rows == len(manifest)
    assert verify(info.path).ok


_STEP = st.tuples(
    st.integers(0, 80),  # new ones
    st.integers(0, 5),  # changed ones
    st.integers(0, 5),  # ones that go
    st.booleans(),  # with a class that was not there
    st.sampled_from(["", "gc", "compact"]),
)


@settings(deadline=None, max_examples=12)
@given(steps=st.lists(_STEP, min_size=1, max_size=4), tokens=st.booleans(), seed=st.integers(0, 99))
def test_any_course_of_changes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], tokens: bool, seed: int
) -> None:
    folder, chance = tmp_path_factory.mktemp("grow"), random.Random(seed)
    samples = _some(150)
    how: dict[str, Any] = {"tokens": tokens}
    place = extract(_texts(samples), "hashed-ngrams", out=folder / "feats", **how).store
    serial = 1000
    for new, changed, gone, other_class, collecting in steps:
        before = dict(samples)
        for id in chance.sample(sorted(samples), changed):
            samples[id] = (samples[id][0] + " changed", samples[id][1])
        for id in chance.sample(sorted(samples), gone):
            del samples[id]
        samples |= _some(new, serial, "a0" if other_class else "")
        serial += 100
        done = extract(_texts(samples), "hashed-ngrams", out=folder / "feats", prune=True, **how)
        assert done.grew is not None
        assert done.grew.new == len(samples.keys() - before.keys())
        assert done.grew.removed == len(before.keys() - samples.keys())
        assert done.grew.changed == sum(
            before[id][0] != samples[id][0] for id in samples.keys() & before.keys()
        )
        if collecting:
            collect(folder / "feats", compact=collecting == "compact")
        _as_fresh(place, _texts(samples), folder / "fresh", **how)
        info = current_store(place)
        assert info is not None
        if collecting:
            assert [state.path for state in find_stores(folder / "feats", states=True)] == [info.path]
        if collecting == "compact":
            with_flags = open_features(info.path)
            assert not np.isin(with_flags.status, FLAGGED).any()
            with_flags.close()
    again = extract(_texts(samples), "hashed-ngrams", out=folder / "feats", prune=True, **how)
    assert again.store == info.path
    assert again.grew is not None
    assert again.grew.text().startswith("complete already")


def _pictures(folder: Path, names: dict[str, int]) -> None:
    for name, seed in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
        Image.fromarray(noise).save(folder / name)


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main(["extract", "--encoder", "pixels", "--json", *words])
    assert not ended.value.code
    return json.loads(capsys.readouterr().out)


def test_a_folder_that_grows_changes_and_shrinks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _pictures(Path("birds"), {f"{c}/{i}.png": i for c in ("owl", "wren") for i in range(80)})
    first = Path(_run(capsys, "--data", "birds")["store"])
    untouched = {
        path: path.read_bytes() for path in first.rglob("*") if path.is_file() and path.name != "lock"
    }
    _pictures(Path("birds"), {"auk/1.png": 500, "wren/3.png": 501})
    (Path("birds") / "owl/0.png").unlink()
    os.utime(Path("birds") / "owl/1.png")  # copied: another time, the same content
    grown = _run(capsys, "--data", "birds")
    kinds = ("rows", "new", "changed", "removed", "missing")
    assert [grown[kind] for kind in kinds] == [161, 1, 1, 0, 1]
    second = open_features(grown["store"])
    assert grown["store"].endswith("pixels~2.zarr")
    assert second.classes == ("owl", "wren", "auk")  # classes are appended, so that labels stay
    assert second.id[:160] == ["wren/3.png~1" if id == "wren/3.png" else id for id in open_features(first).id]
    assert second.id[160:] == ["auk/1.png", "wren/3.png"]
    replaced = second.id.index("wren/3.png~1")
    assert second.status[replaced] == REPLACED
    assert second.valid.sum() == 161
    assert second.samples[replaced] == second.samples[161]  # rows of one file: never in two parts
    second.close()
    assert {path: path.read_bytes() for path in untouched} == untouched
    pruned = _run(capsys, "--data", "birds", "--prune")
    assert [pruned[kind] for kind in kinds] == [160, 0, 0, 1, 0]
    third = open_features(pruned["store"])
    assert third.status[third.id.index("owl/0.png~2")] == REMOVED
    third.close()
    # Shards whose rows stay are those of the state before, and take no room.
    shards = [Path(state) / "pooled/c/0/0" for state in (grown["store"], pruned["store"])]
    assert os.path.samefile(*shards)
    again = _run(capsys, "--data", "birds", "--prune")
    assert (again["store"], again["new"], again["changed"]) == (pruned["store"], 0, 0)


def test_a_new_label_costs_no_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = _some(100)
    first = extract(_texts(samples), "hashed-ngrams", out=tmp_path)
    samples["n5"] = (samples["n5"][0], "b" if samples["n5"][1] == "a" else "a")
    monkeypatch.setattr("uml_extract.growing.adding.fill_stores", None)
    done = extract(_texts(samples), "hashed-ngrams", out=tmp_path)
    assert done.store != first.store
    features = open_features(done.store)
    assert features.classes[features.label[5]] == samples["n5"][1]
    features.close()


def test_other_data_of_the_same_name_are_refused(tmp_path: Path) -> None:
    extract(_texts(_some(60)), "hashed-ngrams", out=tmp_path)
    with pytest.raises(InputError, match=r"60 samples, and 10 of them are in the data: other data"):
        extract(_texts(_some(60, 50)), "hashed-ngrams", out=tmp_path)


def test_an_unmounted_folder_removes_nothing(tmp_path: Path) -> None:
    samples = _some(60)
    first = extract(_texts(samples), "hashed-ngrams", out=tmp_path)
    with pytest.raises(InputError, match="other data have this name"):
        extract(_texts(dict(list(samples.items())[:20])), "hashed-ngrams", out=tmp_path, prune=True)
    kept = extract(_texts(dict(list(samples.items())[:40])), "hashed-ngrams", out=tmp_path)
    assert kept.grew is not None
    assert (kept.grew.missing, kept.grew.removed, kept.store) == (20, 0, first.store)


def test_other_settings_do_not_grow(tmp_path: Path) -> None:
    first = extract(_texts(_some(60)), "hashed-ngrams", out=tmp_path, batch_size=8)
    with pytest.raises(InputError, match="was made with other settings"):
        extract(_texts(_some(61)), "hashed-ngrams", out=tmp_path, batch_size=16)
    assert [store.path for store in find_stores(tmp_path, states=True)] == [first.store]


def test_overwrite_begins_anew(tmp_path: Path) -> None:
    extract(_texts(_some(60)), "hashed-ngrams", out=tmp_path)
    extract(_texts(_some(70)), "hashed-ngrams", out=tmp_path)
    done = extract(_texts(_some(70)), "hashed-ngrams", out=tmp_path, overwrite=True)
    assert [store.path for store in find_stores(tmp_path, states=True)] == [done.store]
    assert done.store.name == "hashed-ngrams.zarr"


def test_an_interrupted_append_is_gone_on_with(tmp_path: Path) -> None:
    from uml_extract import load_encoder

    extract(_texts(_some(60)), "hashed-ngrams", out=tmp_path, batch_size=8)
    more = _texts(_some(400))
    encoder: Any = Stops(load_encoder("hashed-ngrams"), 20)
    with pytest.raises(WorkError, match="stopped"):
        extract(more, encoder, out=tmp_path, batch_size=8)
    assert [store.rows for store in find_stores(tmp_path)] == [60]  # readers see the state before
    increment = tmp_path / "notes/text/.growing/hashed-ngrams.zarr"
    there = store_info(increment).done
    assert there > 0
    done = extract(more, "hashed-ngrams", out=tmp_path, batch_size=8)
    assert done.rows == 400
    assert not increment.parent.exists()
    _as_fresh(done.store, more, tmp_path / "fresh", batch_size=8)


def test_data_that_change_once_more_during_an_append(tmp_path: Path) -> None:
    from uml_extract import load_encoder

    extract(_texts(_some(60)), "hashed-ngrams", out=tmp_path, batch_size=8)
    encoder: Any = Stops(load_encoder("hashed-ngrams"), 20)
    with pytest.raises(WorkError, match="stopped"):
        extract(_texts(_some(400)), encoder, out=tmp_path, batch_size=8)
    done = extract(_texts(_some(410)), "hashed-ngrams", out=tmp_path, batch_size=8)
    _as_fresh(done.store, _texts(_some(410)), tmp_path / "fresh", batch_size=8)


def test_a_damaged_state_is_said_and_can_be_gone_back_from(tmp_path: Path) -> None:
    extract(_texts(_some(60)), "hashed-ngrams", out=tmp_path)
    done = extract(_texts(_some(70)), "hashed-ngrams", out=tmp_path)
    shard = done.store / "pooled/c/1/0"
    data = bytearray(shard.read_bytes())
    data[40] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(WorkError, match=r"damaged in task 1: `uml cache rm .*~2\.zarr` goes back"):
        extract(_texts(_some(70)), "hashed-ngrams", out=tmp_path)
    remove_store(done.store)
    again = extract(_texts(_some(70)), "hashed-ngrams", out=tmp_path)
    _as_fresh(again.store, _texts(_some(70)), tmp_path / "fresh")


def test_unreadable_samples_are_tried_again_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _pictures(Path("birds"), {f"{c}/{i}.png": i for c in ("owl", "wren") for i in range(40)})
    _run(capsys, "--data", "birds")
    whole = (Path("birds") / "owl/1.png").read_bytes()
    (Path("birds") / "owl/99.png").write_bytes(whole[:40])
    broken = _run(capsys, "--data", "birds", "--max-errors", "1")
    assert (broken["new"], broken["failed"]) == (1, 1)
    (Path("birds") / "owl/99.png").write_bytes(whole)
    mended = _run(capsys, "--data", "birds")
    assert (mended["changed"], mended["failed"], mended["rows"]) == (1, 0, 81)


def test_a_store_without_stamps_says_so(tmp_path: Path) -> None:
    samples = _some(60)
    done = extract(_texts(samples), "hashed-ngrams", out=tmp_path)
    (done.store.parent / "hashed-ngrams.stamps").unlink()
    said: list[str] = []

    class _Output:
        json = False

        def __getattr__(self, name: str) -> Any:
            from uml_cache import QUIET

            return getattr(QUIET, name)

        def say(self, text: str) -> None:
            said.append(text)

    output: Any = _Output()
    extract(_texts(_some(61)), "hashed-ngrams", out=tmp_path, output=output)
    assert any("does not say what its samples were made from" in text for text in said)


def test_names_that_read_as_states(tmp_path: Path) -> None:
    assert store_path(tmp_path, "d", "text", None, "net~2").name == "net_2.zarr"
    manifest = replace(_texts(_some(60)), name="d")
    done: Extracted = extract(manifest, "hashed-ngrams", out=tmp_path)
    assert store_info(done.store).state == 1


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("name", ["label/c/0", "id/zarr.json", "zarr.json"])
def test_what_planning_wrote_is_made_again_where_nothing_has_grown(
    tmp_path: Path, remote: bool, name: str
) -> None:
    out = f"memory://{tmp_path.name}/feats" if remote else tmp_path / "feats"
    manifest = _texts(_some(20))
    store = extract(manifest, "hashed-ngrams", out=out).store
    if remote:
        obstore.delete(store.objects, (store / name).key)
    else:
        (store / name).unlink()
    assert not verify(store).ok
    again = extract(manifest, "hashed-ngrams", out=out)
    assert (again.store, again.grew) == (store, None)
    assert verify(store).ok


def test_a_grown_state_that_is_damaged_says_what_mends_it(tmp_path: Path) -> None:
    extract(_texts(_some(20)), "hashed-ngrams", out=tmp_path)
    grown = extract(_texts(_some(25)), "hashed-ngrams", out=tmp_path).store
    (grown / "label" / "c" / "0").unlink()
    with pytest.raises(WorkError, match=r"is missing: the store is damaged; `uml cache rm .*--overwrite"):
        extract(_texts(_some(25)), "hashed-ngrams", out=tmp_path)


def test_the_samples_of_a_grown_store_are_found_row_by_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _pictures(Path("birds"), {f"{c}/{i}.png": i for c in ("owl", "wren") for i in range(20)})
    _run(capsys, "--data", "birds")
    _pictures(Path("birds"), {"auk/1.png": 500, "wren/3.png": 501})
    (Path("birds") / "owl/0.png").unlink()
    grown = store_info(_run(capsys, "--data", "birds")["store"])
    found = samples_of(grown)
    features = open_features(grown.path)
    assert found.ids == features.id
    for row in np.flatnonzero(features.valid).tolist():
        if found.ids[row] != "owl/0.png":  # gone, and kept in the store
            assert found.sources[row] == features.id[row]
    assert not found.path(features.id.index("owl/0.png")).exists()
    assert not found.path(features.id.index("wren/3.png~1")).exists()
    features.close()


def test_a_listed_file_that_is_gone_keeps_its_features(tmp_path: Path) -> None:
    _pictures(tmp_path / "birds", {f"{at}.png": at for at in range(60)})
    manifest = Manifest(
        name="birds",
        modality="image",
        classes=("owl",),
        root=tmp_path / "birds",
        ids=[f"n{at}" for at in range(60)],
        sources=[f"{at}.png" for at in range(60)],
        labels=np.zeros(60),
        splits=np.full(60, 255),
    )
    first = extract(manifest, "pixels", out=tmp_path / "feats")
    (tmp_path / "birds" / "3.png").rename(tmp_path / "elsewhere.png")
    assert extract(manifest, "pixels", out=tmp_path / "feats").store == first.store
    _pictures(tmp_path / "birds", {"3.png": 99})  # another picture comes back
    back = extract(manifest, "pixels", out=tmp_path / "feats")
    assert back.grew is not None
    assert back.grew.changed == 1


def test_on_object_storage(tmp_path: Path) -> None:
    out, samples = f"memory://{tmp_path.name}/feats", _some(300)
    first = extract(_texts(samples), "hashed-ngrams", out=out, tokens=True).store
    samples |= _some(40, 1000)
    samples["n3"] = ("another text", "a")
    del samples["n7"]
    done = extract(_texts(samples), "hashed-ngrams", out=out, tokens=True, prune=True)
    assert done.grew is not None
    assert (done.grew.new, done.grew.changed, done.grew.removed) == (40, 1, 1)
    _as_fresh(first, _texts(samples), tmp_path / "fresh", tokens=True)
    collect(out, compact=True)
    _as_fresh(first, _texts(samples), tmp_path / "fresh", tokens=True)
    left = find_stores(out, states=True)
    assert [(store.state, store.rows) for store in left] == [(3, len(samples))]
    remove_states(first)
    assert first.parent.listing() == ([], [])
