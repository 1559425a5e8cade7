"""`uml cache push` and `uml cache pull`: all of a store arrives, checked, or nothing does."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from s3_server import s3_server
from uml_cache import (
    InputError,
    RemotePath,
    WorkError,
    as_path,
    open_features,
    pull_store,
    push_store,
    verify,
)
from uml_cache.sharing.share_list import LIST
from uml_cache.store import journal

KILLS = 10
FLIPS = 60


def _below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def pushed(sealed: Any, tmp_path: Path) -> Path:
    """A store that was pushed into a folder."""
    push_store(sealed.path, tmp_path / "place")
    return tmp_path / "place"


def _relist(place: Path, change: Any) -> None:
    """Write the list anew, with a right checksum of its own, as who tampers would."""
    content = journal.read_record(place / LIST)
    change(content)
    (place / LIST).write_bytes(journal.record_bytes(content))


def test_a_store_comes_back_as_it_was(sealed: Any, pushed: Path, tmp_path: Path) -> None:
    pulled = pull_store(pushed, tmp_path / "feats")
    assert pulled.place == str(tmp_path / "feats" / "pets" / "image" / "hf_org_net.zarr")
    before, after = open_features(sealed.path), open_features(pulled.place)
    assert after.fingerprint == before.fingerprint == pulled.fingerprint
    assert (after.pooled[:] == before.pooled[:]).all()
    assert list(after.id) == list(before.id)
    assert verify(pulled.place).ok


def test_again_changes_nothing(sealed: Any, pushed: Path, tmp_path: Path) -> None:
    first = pull_store(pushed, tmp_path / "feats")
    there = _below(tmp_path)
    assert first.new
    assert not pull_store(pushed, tmp_path / "feats").new
    assert not push_store(sealed.path, pushed).new
    assert _below(tmp_path) == there


def test_a_bucket(sealed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(monkeypatch, bucket="lab"):
        shared = push_store(sealed.path, "s3://lab/pets", licence="CC-BY-4.0")
        pulled = pull_store("s3://lab/pets", tmp_path / "feats", digest=shared.digest)
    assert verify(pulled.place).ok
    assert pulled.digest == shared.digest


def test_a_push_to_a_bucket_that_broke_off_is_nothing_until_it_is_repeated(
    sealed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = as_path("memory://sharing/pets")
    create = RemotePath.create
    with monkeypatch.context() as patch:

        def dying(self: Any, data: bytes) -> bool:
            if self.name == "plan.json":
                raise KeyboardInterrupt
            return create(self, data)

        patch.setattr(RemotePath, "create", dying)
        with pytest.raises(KeyboardInterrupt):
            push_store(sealed.path, place)
    assert place.exists()
    with pytest.raises(InputError, match="nothing that was shared"):
        pull_store(place, tmp_path / "feats")
    push_store(sealed.path, place)
    assert verify(pull_store(place, tmp_path / "feats").place).ok


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_is_refused_and_leaves_nothing(pushed: Path, tmp_path: Path, seed: int) -> None:
    """In any file but the card, which says nothing that a reader relies on."""
    draw = random.Random(seed)
    files = sorted(file for file in pushed.rglob("*") if file.is_file() and file.name != "README.md")
    assert len(files) > 10
    for _ in range(FLIPS // 3):
        file = draw.choice(files)
        sound = file.read_bytes()
        at = draw.randrange(len(sound))
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << draw.randrange(8)]) + sound[at + 1 :])
        try:
            with pytest.raises((WorkError, InputError)):
                pull_store(pushed, tmp_path / "feats")
        finally:
            file.write_bytes(sound)
        assert _below(tmp_path / "feats") == {}, file
    assert verify(pull_store(pushed, tmp_path / "feats").place).ok


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "run.py", "pooled/c/../../evil", "journal/x.json", "c/0/0/0"]
)
def test_a_name_that_is_no_store_s_file_is_refused(pushed: Path, tmp_path: Path, name: str) -> None:
    _relist(pushed, lambda content: content["files"].append({"path": name, "bytes": 0, "sha256": "0" * 64}))
    with pytest.raises(WorkError, match="not a file of a store"):
        pull_store(pushed, tmp_path / "feats")
    assert not (tmp_path / "feats").exists()


def test_a_list_made_to_fit_changed_features_is_refused(pushed: Path, tmp_path: Path) -> None:
    """The store's own journal says otherwise."""
    import hashlib

    name = "pooled/c/0/0"
    file = pushed / "store" / name
    data = bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]
    file.write_bytes(data)

    def fit(content: dict[str, Any]) -> None:
        entry = next(entry for entry in content["files"] if entry["path"] == name)
        entry["sha256"] = hashlib.sha256(data).hexdigest()

    _relist(pushed, fit)
    with pytest.raises(WorkError, match="not an undamaged store"):
        pull_store(pushed, tmp_path / "feats")
    assert _below(tmp_path / "feats") == {}


def test_another_sound_store_is_refused_by_its_digest(sealed: Any, make_at: Any, tmp_path: Path) -> None:
    digest = push_store(sealed.path, tmp_path / "one").digest
    push_store(make_at(tmp_path / "other.zarr", rows=90).fill().path, tmp_path / "two")
    with pytest.raises(WorkError, match="nothing was pulled"):
        pull_store(tmp_path / "two", tmp_path / "feats", digest=digest)
    assert not (tmp_path / "feats").exists()


def test_what_is_there_stays(sealed: Any, make_at: Any, pushed: Path, tmp_path: Path) -> None:
    other = make_at(tmp_path / "feats" / "pets" / "image" / "hf_org_net.zarr", rows=90).fill()
    before = _below(tmp_path)
    with pytest.raises(InputError, match="another store"):
        pull_store(pushed, tmp_path / "feats")
    with pytest.raises(InputError, match="another shared store"):
        push_store(other.path, pushed)
    with pytest.raises(InputError, match="is not empty"):
        push_store(other.path, tmp_path)
    assert _below(tmp_path) == before


def test_unfinished_and_damaged_stores_are_not_pushed(make_at: Any, tmp_path: Path) -> None:
    store = make_at(tmp_path / "net.zarr", rows=600)
    tasks = store.store.pending()
    store.fill(tasks[:1])
    with pytest.raises(InputError, match="is not finished"):
        push_store(store.path, tmp_path / "place")
    store.fill(tasks[1:])
    shard = store.path / "pooled" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(WorkError, match="is damaged"):
        push_store(store.path, tmp_path / "place")
    assert not (tmp_path / "place").exists()


def test_the_card_says_what_it_is(make_at: Any, tmp_path: Path) -> None:
    """A name from other people's data is text in it."""
    store = make_at(tmp_path / "net.zarr", dataset="a|b <script>\n# c", failed=(5,)).fill()
    shared = push_store(store.path, tmp_path / "place", licence="cc-by-4.0")
    card = (tmp_path / "place" / "README.md").read_text()
    assert card.startswith('---\nlicense: "cc-by-4.0"\n')
    assert "hf:org/net" in card
    assert "300, of which 1 could not be read" in card
    assert shared.fingerprint in card
    assert f"uml pull {tmp_path / 'place'} --digest {shared.digest}\n" in card
    assert "<script>" not in card
    assert "\n# c" not in card
    with pytest.raises(InputError, match="licence"):
        push_store(store.path, tmp_path / "more", licence="x\ntags: [evil]")


@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_kill_leaves_all_of_it_or_none(sealed: Any, pushed: Path, tmp_path: Path, way: str) -> None:
    """The process dies at a file, with those before it written, or when the copy would appear."""
    calls = {
        "push": f"push_store({str(sealed.path)!r}, {str(tmp_path / 'made')!r})",
        "pull": f"pull_store({str(pushed)!r}, {str(tmp_path / 'made')!r})",
    }
    made = tmp_path / "made" / ("share.json" if way == "push" else "pets/image/hf_org_net.zarr")
    code = (
        "import os\n"
        "from uml_cache import pull_store, push_store\n"
        "import uml_cache.sharing.moving as moving\n"
        "import uml_cache.sharing.places as places\n"
        "def run(at):\n"
        "    left = [at]\n"
        "    def dying(call):\n"
        "        def one(*arguments):\n"
        "            left[0] -= 1\n"
        "            if not left[0]: os._exit(9)\n"
        "            return call(*arguments)\n"
        "        return one\n"
        "    places._BATCH_BYTES = 4000\n"
        "    moving._read = dying(moving._read)\n"
        "    places.appear = moving.appear = dying(places.appear)\n"
        f"    {calls[way]}\n"
        "count = sum(len(names) for _, _, names in os.walk(" + repr(str(pushed / "store")) + "))\n"
        "for at in [*range(1, count, 4), count, count + 1, 0]:\n"  # one process: imports are paid for once
        "    child = os.fork()\n"
        "    if not child:\n"
        "        run(at)\n"
        "        os._exit(0)\n"
        "    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        f"    print(code, os.path.exists({str(made)!r}), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) > KILLS
    assert set(lines[:-1]) == {"9 False"}
    assert lines[-1] == "0 True"
    if way == "push":
        assert _below(tmp_path / "made").keys() == _below(pushed).keys()
    else:
        assert verify(made).ok


def test_from_the_command_line(sealed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from uml_cache.cli import main

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["cache", *words])
        out, err = capsys.readouterr()
        return int(leaving.value.code or 0), out, err

    place, feats = str(tmp_path / "place"), str(tmp_path / "feats")
    code, out, _ = run("push", str(sealed.path), place, "--json")
    pushed = json.loads(out)
    assert (code, pushed["new"], pushed["place"]) == (0, True, place)
    code, out, _ = run("pull", place, "--out", feats, "--digest", pushed["digest"])
    assert code == 0
    assert "is here" in out
    shutil.rmtree(feats)
    (tmp_path / "place" / "store" / "zarr.json").unlink()
    code, _, err = run("pull", place, "--out", feats)
    assert code == 1
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert _below(Path(feats)) == {}
