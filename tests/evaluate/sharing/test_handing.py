"""`uml push` and `uml pull`: a store, a run or a head arrives whole, checked and usable, or not at all."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import uml
from hub_server import HubServer, hub_server
from s3_server import s3_server
from small_world import sentences, write_pictures
from uml_cache import InputError, Output, Shared, WorkError, import_features, open_features, verify
from uml_cache.sharing.share_list import LIST
from uml_cache.store import journal
from uml_evaluate import evaluate, pull, push, write_report
from uml_extract import extract
from uml_manifests import from_csv, from_folder
from uml_train import TrainSettings, find_runs, load_head, load_run, train

# huggingface_hub uploads large files in a way that its HTTP library calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
KINDS = ("store", "run", "head")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, sentences, their stores in `feats`, and a run on them in `runs`."""
    folder = tmp_path_factory.mktemp("world")
    write_pictures(folder / "pictures", 10)
    texts, names = sentences(10)
    rows = [f't{i},"{text}",{name}' for i, (text, name) in enumerate(zip(texts, names, strict=True))]
    (folder / "texts.csv").write_text("\n".join(["id,text,label", *rows]))
    extract(from_folder(folder / "pictures", name="toy"), "hog-color", out=folder / "feats")
    extract(from_csv(folder / "texts.csv", name="toy"), "hashed-ngrams", out=folder / "feats")
    train(
        TrainSettings(
            cache=folder / "feats", target="image", methods=("unimodal", "unimodal-deep", "uml"),
            shots=(1, 2), seeds=(1, 2, 3), out=folder / "runs",
        )
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def things(world: Path) -> dict[str, Path]:
    """What is pushed, by its kind."""
    run = find_runs(world / "runs")[0].path
    head = sorted((run / "heads").glob("uml-*"))[0]
    return {"store": world / "feats" / "toy" / "image" / "hog-color.zarr", "run": run, "head": head}


@pytest.fixture(scope="module")
def places(things: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that each of them was pushed to."""
    folder = tmp_path_factory.mktemp("places")
    for kind, thing in things.items():
        push(thing, folder / kind)
    return {kind: folder / kind for kind in things}


def _below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class _Heard(Output):
    said: list[str]

    def __init__(self) -> None:
        super().__init__(quiet=True)
        object.__setattr__(self, "said", [])

    def say(self, message: str) -> None:
        self.said.append(message)


def _used(shared: Shared, things: dict[str, Path], world: Path) -> None:
    """What was pulled does what the original does."""
    there, original = Path(shared.place), things[shared.kind]
    if shared.kind == "store":
        assert verify(there).ok
        assert (open_features(there).pooled[:] == open_features(original).pooled[:]).all()
    elif shared.kind == "run":
        ours, theirs = load_run(there), load_run(original)
        assert [c.to_json() for c in ours.cells] == [c.to_json() for c in theirs.cells]
        assert (there / "results.csv").read_bytes() == (original / "results.csv").read_bytes()
    else:
        pictures = sorted((world / "pictures").rglob("*.png"))
        features = np.asarray(open_features(things["store"]).pooled[:], np.float32)
        expected = load_head(original).predict_proba(features)
        assert (load_head(there).predict_proba(features) == expected).all()
        model = uml.load(there)
        assert model.encoder["name"] == "hog-color"
        assert set(model.predict([str(p) for p in pictures])) <= set(model.classes_)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder(
    kind: str, things: dict[str, Path], places: dict[str, Path], world: Path, tmp_path: Path
) -> None:
    shared = pull(places[kind], tmp_path / "out")
    assert (shared.kind, shared.new) == (kind, True)
    _used(shared, things, world)
    before = _below(tmp_path)
    assert not pull(places[kind], tmp_path / "out", digest=shared.digest).new
    assert not push(things[kind], places[kind]).new
    assert _below(tmp_path).keys() == before.keys()


def test_a_bucket(
    things: dict[str, Path], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(monkeypatch, bucket="lab"):
        for kind, thing in things.items():
            pushed = push(thing, f"s3://lab/{kind}", licence="mit")
            shared = pull(f"s3://lab/{kind}", tmp_path / kind, digest=pushed.digest)
            _used(shared, things, world)


def _hub_place(kind: str) -> str:
    return f"hf://{'' if kind == 'head' else 'datasets/'}lab/{kind}"


def test_the_hub(
    things: dict[str, Path], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server(monkeypatch) as hub:
        for kind, thing in things.items():
            place = _hub_place(kind)
            with pytest.raises(InputError, match="holds nothing that was shared"):
                pull(place, tmp_path / kind)
            pushed = push(thing, place, licence="MIT")
            assert pushed.place == place
            assert len(hub.commits["model" if kind == "head" else "dataset", f"lab/{kind}"]) == 2
            _used(pull(place, tmp_path / kind, digest=pushed.digest), things, world)
            assert not push(thing, place, licence="MIT").new
        assert hub.private == set(hub.commits)
        assert "model.safetensors" in hub.files("model", "lab/head")
        assert all(
            name.startswith("run/") or name in (LIST, "README.md", ".gitattributes")
            for name in hub.files("dataset", "lab/run")
        )


def test_what_the_hub_refuses_is_one_line(
    things: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server(monkeypatch) as hub:
        with pytest.raises(InputError, match=r"goes to hf://datasets/lab/run"):
            push(things["run"], "hf://lab/run")
        with pytest.raises(InputError, match="names no repository"):
            push(things["run"], "hf://run")
        with pytest.raises(InputError, match="must be one of"):
            push(things["head"], "hf://lab/head", licence="my own")
        hub.commit(("model", "lab/full"), {"weights.bin": b"0"})
        with pytest.raises(InputError, match=r"is not empty \(it has weights.bin\)"):
            push(things["head"], "hf://lab/full")
        assert hub.files("model", "lab/full") == {"weights.bin": b"0"}
        push(things["head"], "hf://lab/other")
        head = sorted((things["run"] / "heads").glob("unimodal-data*"))[0]
        with pytest.raises(InputError, match="holds another shared head"):
            push(head, "hf://lab/other")


@pytest.mark.parametrize("at", ["PUT", "commit"])
def test_a_push_to_the_hub_that_breaks_off_leaves_nothing_to_pull(
    at: str, things: dict[str, Path], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server(monkeypatch) as hub:
        hub.breaks = lambda method, path: (
            method == "PUT" if at == "PUT" else method == "POST" and "/commit/" in path
        )
        with pytest.raises(WorkError, match="run the same command again"):
            push(things["run"], _hub_place("run"))
        hub.breaks = lambda method, path: False
        assert set(hub.files("dataset", "lab/run")) == {".gitattributes"}
        with pytest.raises(InputError, match="holds nothing that was shared"):
            pull(_hub_place("run"), tmp_path / "out")
        push(things["run"], _hub_place("run"))
        _used(pull(_hub_place("run"), tmp_path / "out"), things, world)


def test_a_pull_from_the_hub_that_breaks_off_leaves_nothing(
    things: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_server(monkeypatch) as hub:
        push(things["run"], _hub_place("run"))
        hub.breaks = lambda method, path: method == "GET" and path.endswith(".npy")
        with pytest.raises(WorkError, match="run the same command again"):
            pull(_hub_place("run"), tmp_path / "out")
        assert _below(tmp_path / "out") == {}


def test_the_hub_tampers(things: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte of one file in a later commit."""
    with hub_server(monkeypatch) as hub:
        push(things["head"], _hub_place("head"))
        files = hub.files("model", "lab/head")
        data = bytearray(files["model.safetensors"])
        data[-1] ^= 1
        hub.commit(("model", "lab/head"), {**files, "model.safetensors": bytes(data)})
        with pytest.raises(WorkError, match=r"hf://lab/head/model.safetensors does not match its checksum"):
            pull(_hub_place("head"), tmp_path / "out")
        assert _below(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_is_refused_and_leaves_nothing(
    data: st.DataObject, kind: str, places: dict[str, Path], tmp_path: Path
) -> None:
    """In any file but the card, which says nothing that a reader relies on."""
    place = places[kind]
    files = sorted(file for file in place.rglob("*") if file.is_file() and file.name != "README.md")
    file = data.draw(st.sampled_from(files))
    sound = file.read_bytes()
    at = data.draw(st.integers(0, len(sound) - 1))
    other = data.draw(st.integers(1, 255))
    file.write_bytes(sound[:at] + bytes([sound[at] ^ other]) + sound[at + 1 :])
    out = tmp_path / "out"
    try:
        with pytest.raises((WorkError, InputError)) as refused:
            pull(place, out)
    finally:
        file.write_bytes(sound)
    assert "\n" not in str(refused.value)
    assert not out.exists() or _below(out) == {}


def _relist(place: Path, change: Any) -> None:
    """Write the list anew, with a right checksum of its own, as who tampers would."""
    content = journal.read_record(place / LIST)
    change(content)
    (place / LIST).write_bytes(journal.record_bytes(content))


@pytest.fixture
def copied(places: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Places that a test may tamper with."""
    return {kind: Path(shutil.copytree(place, tmp_path / kind)) for kind, place in places.items()}


@pytest.mark.parametrize(
    "name",
    ["../evil", "/tmp/evil", "run.py", "cells/../../evil.json", "heads/a.pt", "heads/a.pkl", "predict/a.npz",
     "figures/a.svg", "cells/sub/a.json", "model.bin", "cells\\a.json"],
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_the_kind_does_not_have_is_refused(
    kind: str, name: str, copied: dict[str, Path], tmp_path: Path
) -> None:
    entry = {"path": name, "bytes": 0, "sha256": "0" * 64}
    _relist(copied[kind], lambda content: content["files"].append(entry))
    with pytest.raises(WorkError, match=f"not a file of a {kind}"):
        pull(copied[kind], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["..", "../evil", "a/b", "", ".hidden", 3])
@pytest.mark.parametrize("kind", ["run", "head"])
def test_a_name_that_leads_elsewhere_is_refused(
    kind: str, name: object, copied: dict[str, Path], tmp_path: Path
) -> None:
    _relist(copied[kind], lambda content: content.update(name=name))
    with pytest.raises(WorkError, match="nothing was pulled"):
        pull(copied[kind], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_whose_list_was_made_to_fit_is_refused_by_its_own_records(
    copied: dict[str, Path], tmp_path: Path
) -> None:
    import hashlib

    file = next((copied["run"] / "run" / "predictions").iterdir())
    data = file.read_bytes()[:-1] + b"\x01"
    file.write_bytes(data)

    def fit(content: dict[str, Any]) -> None:
        (entry,) = (e for e in content["files"] if e["path"].endswith(file.name) and "predic" in e["path"])
        entry["sha256"] = hashlib.sha256(data).hexdigest()

    _relist(copied["run"], fit)
    with pytest.raises(WorkError, match="not an undamaged run"):
        pull(copied["run"], tmp_path / "out")
    assert _below(tmp_path / "out") == {}


def test_a_file_that_no_record_speaks_of_is_refused(copied: dict[str, Path], tmp_path: Path) -> None:
    import hashlib

    (copied["run"] / "run" / "heads" / "more.safetensors").write_bytes(b"more")
    entry = {
        "path": "heads/more.safetensors", "bytes": 4, "sha256": hashlib.sha256(b"more").hexdigest(),
    }  # fmt: skip
    _relist(copied["run"], lambda content: content["files"].append(entry))
    with pytest.raises(WorkError, match="speak of other files: heads/more"):
        pull(copied["run"], tmp_path / "out")
    assert _below(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["results.csv", "metrics.jsonl", "settings.toml"])
def test_a_pickle_under_an_innocent_name_is_refused(
    name: str, copied: dict[str, Path], tmp_path: Path
) -> None:
    import hashlib
    import pickle

    data = pickle.dumps([1, 2, {"a": b"\xff"}])
    (copied["run"] / "run" / name).write_bytes(data)

    def fit(content: dict[str, Any]) -> None:
        (entry,) = (e for e in content["files"] if e["path"] == name)
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    _relist(copied["run"], fit)
    with pytest.raises(WorkError, match="not what its name says"):
        pull(copied["run"], tmp_path / "out")
    assert _below(tmp_path / "out") == {}


def test_what_is_there_stays(things: dict[str, Path], places: dict[str, Path], tmp_path: Path) -> None:
    for kind, place in places.items():
        there = Path(pull(place, tmp_path / kind).place)
        if there.is_dir():
            victim = there / ("zarr.json" if kind == "store" else "config.json")
            victim = there / "journal" / "plan.json" if kind == "store" else victim
            shutil.rmtree(there)
            (there / "mine").mkdir(parents=True)
        else:
            there.write_bytes(b"mine")
        before = _below(tmp_path / kind)
        with pytest.raises(InputError):
            pull(place, tmp_path / kind)
        assert _below(tmp_path / kind) == before


def test_a_pulled_run_is_evaluated_and_reported_without_its_stores(
    world: Path, things: dict[str, Path], tmp_path: Path
) -> None:
    """On another machine: what it was trained on is not there, and that is said."""
    moved = tmp_path / "theirs"
    push(things["run"], tmp_path / "place")
    (world / "feats").rename(moved)
    try:
        run = load_run(pull(tmp_path / "place", tmp_path / "runs").place)
        heard = _Heard()
        found = evaluate(run, shots=(1, 2), output=heard)
        assert any("are not where" in line for line in heard.said)
        assert found.trained == 0
        assert {row.method for row in found.comparisons[0].rows} >= {"unimodal", "unimodal-deep", "uml"}
        report = write_report(tmp_path / "runs", output=heard)
        assert report.path.is_file()
    finally:
        moved.rename(world / "feats")


def test_a_pulled_store_trains(places: dict[str, Path], tmp_path: Path) -> None:
    pull(places["store"], tmp_path / "feats")
    result = train(
        TrainSettings(
            cache=tmp_path / "feats", target="image", auxiliaries=(), methods=("unimodal",), shots=(1,),
            seeds=(1,), out=tmp_path / "runs",
        )
    )  # fmt: skip
    assert result is not None
    assert len(find_runs(tmp_path / "runs")[0].cells) == 1


def test_the_head_that_predict_takes(world: Path, things: dict[str, Path], tmp_path: Path) -> None:
    push(things["run"], tmp_path / "place", head=True)
    shared = pull(tmp_path / "place", tmp_path / "heads")
    assert load_head(shared.place).about["refit"]
    card = (tmp_path / "place" / "README.md").read_text()
    assert "training and validation rows together" in card
    model = uml.load(shared.place)
    saved = model.save(tmp_path / "saved.safetensors")
    again = push(saved, tmp_path / "again")
    assert pull(tmp_path / "again", tmp_path / "more", digest=again.digest).new


def test_cards(world: Path, things: dict[str, Path], places: dict[str, Path], tmp_path: Path) -> None:
    run = (places["run"] / "README.md").read_text()
    assert run.startswith('---\ntags: ["uml", "run"]\nviewer: false\n---\n')
    assert "95 % interval" in run
    assert "chance" in run
    assert "uml train --dataset toy" in run
    assert str(world) not in run.replace(str(places["run"]), "")
    head = (places["head"] / "README.md").read_text()
    assert 'pipeline_tag: "image-classification"' in head
    assert "Licence of its weights | Apache-2.0" in head
    assert "95 % interval" in head


def test_a_run_that_is_damaged_or_empty_is_not_pushed(things: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(things["run"], tmp_path / "run"))
    head = next((copy / "heads").iterdir())
    head.write_bytes(head.read_bytes()[:-1])
    with pytest.raises(InputError, match="is damaged"):
        push(copy, tmp_path / "place")
    shutil.rmtree(copy / "cells")
    with pytest.raises(InputError, match="no finished cell"):
        push(copy, tmp_path / "place")
    with pytest.raises(InputError, match="expected a store"):
        push(tmp_path, tmp_path / "place")
    assert not (tmp_path / "place").exists()


def test_from_the_command_line_with_hf_endpoint(
    things: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of their own, which know the hub by its variable alone."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "uml_cache", *words], capture_output=True, text=True, cwd=tmp_path
        )

    with hub_server(monkeypatch) as hub:
        pushed = run("push", str(things["head"]), "hf://lab/birds", "--licence", "mit", "--json", "--quiet")
        assert pushed.returncode == 0, pushed.stderr
        digest = json.loads(pushed.stdout)["digest"]
        pulled = run("pull", "hf://lab/birds", "--digest", digest)
        assert pulled.returncode == 0, pulled.stderr
        assert "head heads/" in pulled.stdout
        (head,) = (tmp_path / "heads").iterdir()
        assert head.read_bytes() == hub.files("model", "lab/birds")["model.safetensors"]
        refused = run("pull", "hf://lab/birds", "--digest", "0" * 64, "--out", "other")
        assert refused.returncode == 1
        assert len(refused.stderr.splitlines()) == 1
        assert not (tmp_path / "other").exists()


def test_the_stand_in_refuses_a_commit_on_an_old_state(
    things: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pushes at once to one empty repository: the second is told, and the first one's stays."""
    with hub_server(monkeypatch) as hub:
        hub.commit(("model", "lab/both"), {})
        first = _racing(hub)
        with first, pytest.raises((WorkError, InputError)):
            push(things["head"], "hf://lab/both")
        assert set(hub.files("model", "lab/both")) == {"theirs"}


@contextlib.contextmanager
def _racing(hub: HubServer) -> Any:
    def breaks(method: str, path: str) -> bool:
        if method == "POST" and "/preupload/" in path:
            hub.commit(("model", "lab/both"), {"theirs": b"1"})
        return False

    hub.breaks = breaks
    yield


def test_a_head_on_imported_features_is_handed_on(tmp_path: Path) -> None:
    """Of its encoder the name alone is known: the card says so, and the head takes features."""
    values = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
    np.savez(tmp_path / "a.npz", features=values, labels=np.arange(120) % 3)
    import_features(
        [tmp_path / "a.npz"], out=tmp_path / "feats", dataset="a|b <b>", modality="image", encoder="e*f"
    )
    train(
        TrainSettings(
            cache=tmp_path / "feats", target="image", auxiliaries=(), methods=("unimodal",), shots=(1,),
            seeds=(1,), out=tmp_path / "runs",
        )
    )  # fmt: skip
    run = find_runs(tmp_path / "runs")[0].path
    push(next((run / "heads").iterdir()), tmp_path / "place")
    card = (tmp_path / "place" / "README.md").read_text()
    assert "| Licence of its weights | not recorded |" in card
    assert "<b>" not in re.sub("```.*?```", "", card, flags=re.DOTALL)  # a block of code shows what it holds
    assert "a\\|b" in card
    assert "e\\*f" in card
    assert len(load_head(pull(tmp_path / "place", tmp_path / "heads").place).classes) == 3
