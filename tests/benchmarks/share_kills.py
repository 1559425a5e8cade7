"""`uml push` and `uml pull` of a store, a run and a head, and `uml cache rm`, are killed (SIGKILL) before or
after each call that changes the disk.

    python tests/benchmarks/share_kills.py --kills 100 --flips 100

The n-th time that the process renames, flushes, makes a folder or deletes it dies, before the call or after
it, for n = 1, 2, … After each kill what is shared, or pulled, must be there whole or not at all; the
next call must end the work and leave nothing else behind. Then single bits of a shared store, run and head
are flipped: every pull must be refused and leave nothing. Exits 1 where one of these fails.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from dying import dies

from uml_cache import (
    InputError,
    WorkError,
    import_features,
    remove_store,
    verify,
)
from uml_evaluate import pull, push
from uml_train import TrainSettings, find_runs, load_head, train

_NEVER = -1
_CELLS = 6


def _names(folder: Path) -> list[str]:
    """Every file below a folder but the writers' lock, which no journal lists."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != "lock")
    return sorted(str(file.relative_to(folder)) for file in files)


def _killed(
    kills: int,
    work: Callable[[], object],
    begin: Callable[[], None],
    whole: Callable[[], bool | None],
    wanted: bool,
    left: Callable[[], list[str]],
) -> tuple[int, int]:
    """How many kills there were, and after how many all was done already.

    `whole` says of what is there True (sound), False (half) or None (nothing); `wanted` is whether the work
    ends with something; `left` is what lies there at the end.
    """
    begin()
    dies(work, _NEVER, False)
    expected = left()
    died = done = moment = 0
    while died < kills:
        moment += 1
        for after in (False, True):
            begin()
            if not dies(work, moment, after):
                moment = 0  # the work has fewer calls than that: all moments again
                break
            died += 1
            state = whole()
            if state is False:
                sys.exit(f"half of it is there after a kill at call {moment}")
            finished = (state is True) == wanted
            done += finished
            if wanted or not finished:
                dies(work, _NEVER, False)  # in a process of its own, as a command is
            if whole() is not (True if wanted else None):
                sys.exit(f"the next call did not end what a kill at call {moment} began")
            if wanted and left() != expected:
                sys.exit(f"left after a kill at call {moment}: {sorted(set(left()) ^ set(expected))[:5]}")
    return died, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--only", choices=("store", "run", "head"), help="one kind alone")
    parser.add_argument("--rows", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        values = np.random.default_rng(0).normal(size=(options.rows, 16)).astype(np.float32)
        np.savez(folder / "a.npz", features=values, labels=np.arange(options.rows) % 5)
        import_features([folder / "a.npz"], out=folder / "feats", dataset="a", modality="image", encoder="e")
        settings = TrainSettings(
            cache=folder / "feats", target="image", auxiliaries=(), methods=("unimodal",), shots=(1, 2),
            seeds=(1, 2, 3), out=folder / "runs",
        )  # fmt: skip
        train(settings)
        run = find_runs(folder / "runs")[0].path
        things = {
            "store": folder / "feats" / "a" / "image" / "e.zarr",
            "run": run,
            "head": next((run / "heads").iterdir()),
        }
        wrong = 0
        for kind, thing in things.items():
            if options.only in (None, kind):
                wrong += _of_kind(kind, thing, folder / kind, options)
        if options.only in (None, "store"):
            _removal(things["store"], folder, options)
        sys.exit(wrong != 0)


def _clear(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)


def _sound(kind: str, at: Path) -> bool:
    if kind == "store":
        return bool(verify(at).ok)
    if kind == "head":
        return load_head(at).features > 0
    found = find_runs(at)[0]
    state = found.inspect(thorough=True)
    return not state.gone and not state.damaged and len(state.whole) == _CELLS


def _of_kind(kind: str, thing: Path, folder: Path, options: argparse.Namespace) -> int:
    """Kill the pushes and the pulls of one thing, then flip bits of it; how many flips were not refused."""
    shared, pulled = folder / "there" / "shared", folder / "pulled"
    # Elsewhere: who writes into a folder for the first time clears away what the dead have left, and what
    # this process has done its children count as done.
    first = _pushed(thing, folder / "first" / "shared")
    place = pulled / Path(pull(first, folder / "check").place).relative_to(folder / "check")
    dies(lambda: push(thing, shared), _NEVER, False)

    def is_shared() -> bool | None:
        if not shared.exists():
            return None
        _clear(folder / "check")
        try:
            return _sound(kind, Path(pull(shared, folder / "check").place))
        except (InputError, WorkError):
            return False

    def is_pulled() -> bool | None:
        return _sound(kind, place) if place.exists() else None

    jobs = {
        "push": (lambda: push(thing, shared), lambda: _clear(shared.parent), is_shared, shared.parent),
        "pull": (lambda: pull(shared, pulled), lambda: _clear(pulled), is_pulled, pulled),
    }
    for name, (work, begin, whole, where) in jobs.items():
        left = partial(_names, where)
        died, done = _killed(options.kills, work, begin, whole, True, left)
        print(f"{kind}, {name}: {died} kills, {done} after all was done; never half of it", flush=True)
    files = [file for file in shared.rglob("*") if file.is_file() and file.name != "README.md"]
    draw, refused = random.Random(0), 0
    for _ in range(options.flips):
        file = draw.choice(files)
        sound = file.read_bytes()
        at = draw.randrange(len(sound))
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << draw.randrange(8)]) + sound[at + 1 :])
        _clear(pulled)
        try:
            pull(shared, pulled)
        except (InputError, WorkError):
            refused += not _names(pulled)
        file.write_bytes(sound)
    print(f"{kind}: {refused} of {options.flips} flipped bits were refused, and nothing was left", flush=True)
    return int(options.flips - refused)


def _pushed(thing: Path, place: Path) -> Path:
    push(thing, place)
    return place


def _removal(store: Path, folder: Path, options: argparse.Namespace) -> None:
    spare = folder / "spare" / "e.zarr"

    def copied() -> None:
        _clear(spare.parent)
        shutil.copytree(store, spare)

    def is_sound() -> bool | None:
        return verify(spare).ok if spare.exists() else None

    died, done = _killed(options.kills, lambda: remove_store(spare), copied, is_sound, False, list)
    print(f"rm: {died} kills, {done} after all was done; never half of it", flush=True)


if __name__ == "__main__":
    main()
