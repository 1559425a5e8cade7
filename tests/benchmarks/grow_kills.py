"""A store's append, `uml cache gc`, its `--compact`, and `uml cache rm` of all states are killed (SIGKILL)
before or after each call that changes the disk.

    python tests/benchmarks/grow_kills.py --kills 100

The n-th time that the process links, renames, flushes, makes a folder or deletes it dies, before the call or
after it, for n = 1, 2, … After each kill every reader must find a sealed state, which is sound; the next call
must end the work with the bytes of one that was never interrupted, and leave nothing else behind. Exits 1
where one of these fails. The suite does the same with a few kills of each.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from dying import dies

from uml_cache import find_stores, remove_states, verify
from uml_cache.growing.collecting import collect
from uml_extract import extract
from uml_manifests import Manifest


def notes(count: int, changed: int = 0, first: int = 0) -> Manifest:
    """Texts with ids, some of them changed; those before `first` are gone."""
    words = np.random.default_rng(0).integers(0, 50, (count, 6))
    texts = [" ".join(f"w{word}" for word in row) for row in words.tolist()]
    texts[first : first + changed] = [f"{text} anew" for text in texts[first : first + changed]]
    return Manifest(
        name="notes",
        modality="text",
        classes=("a", "b"),
        root=Path("."),
        ids=[f"n{at}" for at in range(first, count)],
        sources=texts[first:],
        labels=np.arange(first, count) % 2,
        splits=np.full(count - first, 255),
    )


def _append(feats: Path, count: int = 260) -> None:
    extract(notes(count, 9, first=4), "hashed-ngrams", out=feats, tokens=True, prune=True)


def _begin(feats: Path) -> None:
    extract(notes(200), "hashed-ngrams", out=feats, tokens=True)


def _begin_grown(feats: Path) -> None:
    _begin(feats)
    _append(feats)
    _append(feats, 270)


def _remove(feats: Path) -> None:
    remove_states(feats / "notes/text/hashed-ngrams@tokens.zarr")


JOBS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "append": (_begin, _append),
    "gc": (_begin_grown, collect),
    "gc --compact": (_begin_grown, lambda feats: collect(feats, compact=True)),
    "rm": (_begin_grown, _remove),
}


def _content(feats: Path) -> dict[str, bytes]:
    """Every file but the lock; of records, which tell seconds, the name alone."""
    files = (path for path in feats.rglob("*") if path.is_file() and path.name != "lock")
    return {
        str(path.relative_to(feats)): b"" if path.parent.name == "journal" else path.read_bytes()
        for path in files
    }


def _readable(feats: Path) -> bool:
    """Whether a reader finds one sealed, sound state; or none, of a store that is being removed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = find_stores(feats)
    return all(store.sealed and verify(store.path).ok for store in found)


def kill_growth(folder: Path, name: str, kills: int) -> int:
    """Kill one of the jobs so many times; how many times something was wrong afterwards."""
    begin, work = JOBS[name]
    start, straight = folder / "start", folder / "straight"
    begin(start)
    shutil.copytree(start, straight)
    work(straight)
    expected = _content(straight)
    wrong = done = moment = turn = 0
    while done < kills:
        moment += 1
        for after in (False, True):
            turn += 1
            feats = folder / f"feats{turn}"  # a process clears a folder of leftovers once
            shutil.copytree(start, feats)
            died = dies(partial(work, feats), moment, after)
            done += died
            if died:
                readable = _readable(feats) and (name == "rm" or bool(find_stores(feats)))
                if name != "rm" or find_stores(feats):
                    work(feats)
                ended = _content(feats) == expected
                if not (readable and ended):
                    print(f"{name}, call {moment} {'after' if after else 'before'}: {readable=} {ended=}")
                wrong += not (readable and ended)
            shutil.rmtree(feats, ignore_errors=True)
            if not died:
                moment = 0  # there are no more calls: from the first one again
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", choices=list(JOBS))
    options = parser.parse_args()
    torch.set_num_threads(1)  # a child that is forked has none of its parent's threads, and waits for them
    wrong = 0
    for name in [options.only] if options.only else JOBS:
        with tempfile.TemporaryDirectory() as folder:
            bad = kill_growth(Path(folder), name, options.kills)
        print(f"{name}: {options.kills} kills, {bad} wrong", flush=True)
        wrong += bad
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
