"""`uml cache push`, `pull` and `rm` are killed (SIGKILL) before or after each call that changes the disk.

    python tests/benchmarks/share_kills.py --kills 100 --flips 100

The n-th time that the process renames, flushes, makes a folder or deletes it dies, before the call or after
it, for n = 1, 2, … After each kill the store, or the shared place, must be there whole or not at all; the
next call must end the work and leave nothing else behind. Then single bits of a shared store are flipped:
every pull must be refused and leave nothing. Exits 1 where one of these fails.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from uml_cache import (
    InputError,
    WorkError,
    import_features,
    pull_store,
    push_store,
    remove_store,
    verify,
)

_CALLS = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir")
_NEVER = -1


def _dying(work: Callable[[], object], moment: int, after: bool) -> bool:
    """Do the work in a child that dies at one call; whether it died."""
    child = os.fork()
    if not child:
        calls = 0

        def target(name: str) -> None:
            real = getattr(os, name)

            def call(*arguments: object, **options: object) -> object:
                nonlocal calls
                calls += 1
                mine = calls == moment
                if mine and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = real(*arguments, **options)
                if mine:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            setattr(os, name, call)

        for name in _CALLS:
            target(name)
        try:
            work()
        except BaseException as error:
            print(f"unexpected: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        sys.exit("the work itself failed")
    return status != 0


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
    _dying(work, _NEVER, False)
    expected = left()
    died = done = moment = 0
    while died < kills:
        moment += 1
        for after in (False, True):
            begin()
            if not _dying(work, moment, after):
                moment = 0  # the work has fewer calls than that: all moments again
                break
            died += 1
            state = whole()
            if state is False:
                sys.exit(f"half of it is there after a kill at call {moment}")
            finished = (state is True) == wanted
            done += finished
            if wanted or not finished:
                _dying(work, _NEVER, False)  # in a process of its own, as a command is
            if whole() is not (True if wanted else None):
                sys.exit(f"the next call did not end what a kill at call {moment} began")
            if wanted and left() != expected:
                sys.exit(f"left after a kill at call {moment}: {sorted(set(left()) ^ set(expected))[:5]}")
    return died, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--rows", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        values = np.random.default_rng(0).normal(size=(options.rows, 16)).astype(np.float32)
        np.savez(folder / "a.npz", features=values, labels=np.arange(options.rows) % 5)
        import_features([folder / "a.npz"], out=folder / "feats", dataset="a", modality="image", encoder="e")
        store = folder / "feats" / "a" / "image" / "e.zarr"
        shared, pulled, spare = folder / "shared", folder / "pulled", folder / "spare" / "e.zarr"
        there = pulled / "a" / "image" / "e.zarr"

        def clear(place: Path) -> None:
            shutil.rmtree(place, ignore_errors=True)

        def copied() -> None:
            clear(spare.parent)
            shutil.copytree(store, spare)

        def is_shared() -> bool | None:
            if not shared.exists():
                return None
            place = folder / "check"
            clear(place)
            try:
                return bool(verify(pull_store(shared, place).place).ok)
            except (InputError, WorkError):
                return False

        def is_sound(at: Path) -> bool | None:
            return verify(at).ok if at.exists() else None

        jobs = {
            "push": (lambda: push_store(store, shared), lambda: clear(shared), is_shared, True,
                     lambda: _names(shared)),
            "pull": (lambda: pull_store(shared, pulled), lambda: clear(pulled), lambda: is_sound(there), True,
                     lambda: _names(pulled)),
            "rm": (lambda: remove_store(spare), copied, lambda: is_sound(spare), False, list),
        }  # fmt: skip
        for name, job in jobs.items():
            died, done = _killed(options.kills, *job)
            print(f"{name}: {died} kills, {done} after all was done; never half of it", flush=True)
        files = [file for file in shared.rglob("*") if file.is_file() and file.name != "README.md"]
        draw, refused = random.Random(0), 0
        for _ in range(options.flips):
            file = draw.choice(files)
            sound = file.read_bytes()
            at = draw.randrange(len(sound))
            file.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << draw.randrange(8)]) + sound[at + 1 :])
            clear(pulled)
            try:
                pull_store(shared, pulled)
            except (InputError, WorkError):
                refused += not _names(pulled)
            file.write_bytes(sound)
        print(f"{refused} of {options.flips} flipped bits were refused, and nothing was left")
        sys.exit(refused != options.flips)


if __name__ == "__main__":
    main()
