"""`uml cache rm`: gone at once or whole, and never under somebody's eyes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from uml_cache import InputError, as_path, create_or_resume, find_stores, open_features, remove_store, verify


@pytest.fixture
def mine(tmp_path: Path, make_at: Any) -> Any:
    """A sealed store of the test's own."""
    return make_at(tmp_path / "feats" / "pets" / "image" / "net.zarr", rows=90).fill()


def test_a_store_goes_and_its_neighbours_stay(mine: Any) -> None:
    other = mine.path.with_name("other.zarr")
    shutil.copytree(mine.path, other)
    for path in (mine.path, other):
        path.with_suffix(".origin.json").write_text("{}")
    size = sum(file.stat().st_size for file in other.rglob("*") if file.is_file())
    assert remove_store(other) == size
    left = {path.name for path in mine.path.parent.iterdir()}
    assert left == {mine.path.name, mine.path.with_suffix(".origin.json").name}
    assert verify(mine.path).ok


def test_what_is_read_or_written_stays(mine: Any) -> None:
    features = open_features(mine.path)
    with pytest.raises(InputError, match="is being read"):
        remove_store(mine.path)
    features.close()
    with mine.store.lock(), pytest.raises(InputError, match="being written by another run"):
        remove_store(mine.path)
    assert verify(mine.path).ok
    remove_store(mine.path)
    assert not mine.path.exists()


def test_a_cache_folder_is_no_store(mine: Any) -> None:
    for place in (mine.path.parents[2], mine.path / "pooled", mine.path.with_name("none.zarr")):
        with pytest.raises(InputError, match="nothing was removed"):
            remove_store(place)
    assert verify(mine.path).ok


def test_a_damaged_store_can_be_removed(mine: Any) -> None:
    (mine.path / "journal" / "plan.json").write_bytes(b"{")
    remove_store(mine.path)
    assert not mine.path.exists()


@pytest.mark.parametrize("moment", ["os.rename", "shutil.rmtree"])
def test_a_kill_leaves_all_of_it_or_none(mine: Any, moment: str) -> None:
    """The process dies before the store is moved aside, or when it is and before it is deleted."""
    assert verify(mine.path).ok
    code = (
        "import os, shutil, sys\n"
        "from uml_cache import remove_store\n"
        "def die(*_, **__): os._exit(9)\n"
        f"{moment} = die\n"
        f"remove_store({str(mine.path)!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    if moment == "os.rename":
        assert verify(mine.path).ok
        remove_store(mine.path)
    assert not mine.path.exists()
    assert find_stores(mine.path.parents[2]) == []


def test_objects_go_plan_first_and_a_second_call_ends_what_a_first_began(
    mine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = as_path("memory://removal/feats/pets/image/net.zarr")
    create_or_resume(store, mine.plan)
    gone: list[str] = []
    unlink = type(store).unlink

    def dying(self: Path, missing_ok: bool = False) -> None:
        if len(gone) == 3:
            raise KeyboardInterrupt
        gone.append(str(self))
        unlink(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            remove_store(store)
    assert [name.rpartition("feats/")[2] for name in gone[:2]] == [
        "pets/image/net.stamps",  # beside the store, which nobody would find without it
        "pets/image/net.zarr/journal/plan.json",
    ]
    assert (store / "zarr.json").exists()
    assert remove_store(store) > 0
    assert not store.exists()
