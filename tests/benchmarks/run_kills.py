"""Commands that write runs are killed (SIGKILL), at random and just before they leave something on the disk.

    python tests/benchmarks/run_kills.py train --kills 100
    python tests/benchmarks/run_kills.py analysis rivals reproduce embed --kills 20

The same command then goes on; tables, cells, heads, findings and stores must be those of a command that
nobody disturbed, and nothing temporary may be left. Exits 1 where it is not so. The suite does the same with
a few kills.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import forked
from token_stores import write_sequences
from toy_stores import clusters, write_store

# What differs between two runs of one command: when, how long, and digests of files that say so.
_PASSING = {"created", "seconds", "sha256", "bytes", "files", "key", "machine"}
_METHODS = "unimodal,unimodal-deep,uml,auto"
_TRAIN = ["train", "--cache", "feats", "--dataset", "toy", "--aux", "text", "--method", _METHODS, "--shots"]
COMMANDS: dict[str, list[str]] = {
    "train": [*_TRAIN, "1,2", "--seeds", "1-4", "--grid", "grid.toml"],
    "analysis": ["eval", "--analysis", "margin,silhouette"],
    "rivals": ["eval", "--k", "1,2,4", "--rivals", "ncm,lda,ridge-text"],
    "shift": ["eval", "--shift", "other"],
    "reproduce": ["reproduce", "table9", "--scale", "tiny", "--out", "answer"],
    "embed": ["embed", "ssl", "--out", "learnt"],
    "ssl": [
        "train", "--cache", "tokens", "--target", "image", "--aux", "text", "--objective", "ssl", "--grid",
        "ssl.toml", "--seeds", "1,2", "--checkpoint-minutes", "0", "--out", "ssl",
    ],
}  # fmt: skip
_BEFORE = {"analysis": "train", "rivals": "train", "shift": "train", "embed": "ssl"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("commands", nargs="+", choices=list(COMMANDS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    forked.load()
    wrong = sum(trial(name, arguments.kills, arguments.seed) for name in arguments.commands)
    sys.exit(wrong > 0)


def trial(name: str, kills: int, seed: int) -> int:
    """Kill one command so often, and print what came of it; how many trials went wrong."""
    rng = random.Random(f"{seed} {name}")
    with tempfile.TemporaryDirectory() as scratch:
        base, place = Path(scratch) / "base", Path(scratch) / "trial"  # one place: records name paths
        stores(base)
        if name in _BEFORE:
            done(base, COMMANDS[_BEFORE[name]])
        shutil.copytree(base, place)
        words = COMMANDS[name]
        undisturbed = done(place, words)
        expected = content(place)
        shutil.rmtree(place)
        hit, wrong = 0, 0
        while hit < kills:
            shutil.copytree(base, place)
            for _ in range(rng.choice((1, 1, 2))):
                hit += forked.killed_somewhere(words, place, undisturbed, rng).code < 0
            again = forked.run(words, place)
            differing = differences(expected, content(place))
            if again.code or differing or "Traceback" in again.err:
                wrong += 1
                print(f"{name}: exit {again.code} {again.err[-300:]} {differing[:5]}")
            shutil.rmtree(place)
    size = f"{undisturbed.calls} calls and {undisturbed.seconds:.1f} s undisturbed"
    print(f"{name}: {hit} kills ({size}), {wrong} wrong")
    return wrong


def done(place: Path, words: list[str]) -> forked.Said:
    """A command run to its end, which must be a good one."""
    said = forked.run(words, place)
    assert said.code == 0, said.err
    return said


def stores(place: Path) -> None:
    """Two data sets of pictures and texts, stores with tokens, and small searches."""
    labels, splits = np.tile(np.arange(5), 24), np.repeat([0, 1, 2], 40)
    for i, dataset in enumerate(("toy", "other")):
        write_store(place / "feats", "image", clusters(i, labels, 12, 1.5), labels, splits, dataset=dataset)
    words = np.tile(np.arange(5), 10)
    write_store(place / "feats", "text", clusters(2, words, 16, 0.5), words, np.full(50, 255))
    write_sequences(place / "tokens", "image", 6, 60, splits=np.repeat([0, 1, 2], 20))
    write_sequences(place / "tokens", "text", 4, 30, labelled=False)
    (place / "grid.toml").write_text(
        "lr = [0.01, 0.001]\nsteps = 60\nwarmup = 5\neval_every = 10\nbatch_size = [8]\n"
    )
    (place / "ssl.toml").write_text(
        "steps = 12\nwidth = [8]\nlayers = 1\nheads = 2\nfeedforward = 8\nbatch_size = 8\nclip = 0.5\n"
    )


def content(place: Path) -> dict[str, str]:
    """What every file of a folder says, but for what differs between any two runs (locks, and which times the
    samples had that could be read)."""
    return {
        file.relative_to(place).as_posix(): _content(file)
        for file in sorted(place.rglob("*"))
        if file.is_file() and file.name not in (".lock", "lock") and not file.name.startswith(".readable-")
    }


def _content(file: Path) -> str:
    if file.suffix == ".json":
        value = json.dumps(lasting(json.loads(file.read_text())), sort_keys=True)
    elif file.suffix == ".csv":
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        value = json.dumps(lasting(rows))
    elif file.suffix == ".html":
        value = ""
    else:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return value


def lasting(value: Any) -> Any:
    """A JSON value without what differs between any two runs."""
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if k not in _PASSING}
    return [lasting(v) for v in value] if isinstance(value, list) else value


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Files that are missing, too many or other."""
    names = sorted(set(expected) | set(found))
    return [
        f"{name}: {'gone' if name not in found else 'new' if name not in expected else 'other'}"
        for name in names
        if expected.get(name) != found.get(name)
    ]


if __name__ == "__main__":
    main()
