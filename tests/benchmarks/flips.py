"""One random byte of a file of a run or a store is changed: who uses it notices, or nothing is different.

    python tests/benchmarks/flips.py --flips 1000

Bytes are changed through the file system, as a bad disk or cable would. Every trial changes one byte of a
fresh copy and runs one command that uses the file. `noticed`: it names the file (or its store) in one
line, and fails or makes it anew. `harmless`: what it says and leaves is the same, to the digit. Anything else
is UNNOTICED, and a traceback is WRONG; the script exits 1 then. The suite does the same with a few flips.
Checkpoints, and networks whose cells are not recorded yet, come from a training that is killed for each flip.
Commands run in forked children. Figures are not drawn: they show what was read, and take most of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parent)]

from run_kills import COMMANDS, content, done, lasting, stores  # noqa: E402

import forked  # noqa: E402

_RUN = "runs"
WAYS: dict[str, list[str]] = {
    "train": COMMANDS["train"],
    "eval": ["eval", "--k", "1,2", "--rivals", "ncm,lda", "--json"],
    "report": ["report", "runs", "--out", "page/report.html", "--json"],
    "compare": ["eval", "--compare", "runs", "second", "--json"],
    "analysis": ["eval", "--analysis", "margin,silhouette", "--json"],
    "shift": ["eval", "--shift", "other", "--json"],
    "metric": ["eval", "--k", "1,2", "--metric", "log-loss", "--json"],
    "embed": ["embed", "ssl", "--out", "learnt", "--json"],
    "ssl": COMMANDS["ssl"],
    "config": ["train", "--config", "runs/RUN/settings.toml", "--seeds", "1", "--out", "fresh"],
    "fresh": [*COMMANDS["train"], "--out", "fresh"],
    "more": ["eval", "--k", "4", "--json"],
    "advise": ["eval", "--advise", "--cache", "feats", "--dataset", "toy", "--json"],
}
# Which commands use a file, by the beginning of its path in a run.
_USED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("config.json", ("train", "eval", "report", "compare", "analysis")),
    ("test_labels.npy", ("train", "eval", "report")),
    ("splits.json", ("train", "compare", "more")),
    ("cells/", ("train", "eval", "report", "analysis")),
    ("predictions/", ("train", "eval", "report")),
    ("scores/", ("train", "metric")),
    ("heads/", ("train", "analysis", "shift")),
    ("analyses/", ("analysis", "report")),
    ("shifts/", ("shift",)),
    ("results.csv", ("train",)),
    ("metrics.jsonl", ("train",)),
    ("settings.toml", ("train", "config")),
)
_USED_SSL: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("config.json", ("embed", "ssl")),
    ("cells/", ("embed", "ssl")),
    ("heads/", ("embed", "ssl")),
)
_HALFWAY = "ssl halfway"


@dataclass(frozen=True)
class Place:
    """A folder with stores and runs; by kind the files that can be changed, with what uses them."""

    folder: Path
    files: dict[str, list[tuple[Path, tuple[str, ...]]]]
    calls: int  # of a training without labels, at which it can be killed


@dataclass(frozen=True)
class Whole:
    """What a command says and leaves where nothing was changed."""

    answer: Any
    left: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--flips", type=int, default=100, help="0: one of each kind of file")
    parser.add_argument("--kinds", nargs="*", help="only these, such as predictions/ or store")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    forked.load()
    _draw_nothing()
    rng = random.Random(arguments.seed)
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        place = prepared(Path(scratch))
        kinds = arguments.kinds or sorted([*place.files, _HALFWAY])
        known: dict[str, Whole] = {}
        drawn = (rng.choice(kinds) for _ in range(arguments.flips))  # each when it is needed
        chosen = drawn if arguments.flips else kinds
        for i, kind in enumerate(chosen):
            counts[kind, trial(place, kind, known, rng)] += 1
            if i % 50 == 49:
                print(f"{i + 1} flips", file=sys.stderr, flush=True)
    words = ("noticed", "harmless", "UNNOTICED", "WRONG")
    print(f"{'file':<16}" + "".join(f"{word:>11}" for word in words))
    for kind in kinds:
        print(f"{kind:<16}" + "".join(f"{counts[kind, word]:>11}" for word in words))
    total = {word: sum(n for (_, said), n in counts.items() if said == word) for word in words}
    print(f"{'all':<16}" + "".join(f"{total[word]:>11}" for word in words))
    sys.exit(total["UNNOTICED"] + total["WRONG"] > 0)


def prepared(scratch: Path) -> Place:
    """Stores, a run with everything that commands add to it, a second run, and a run without labels."""
    folder = scratch / "base"
    stores(folder)
    work = scratch / "trial"
    shutil.copytree(folder, work)
    for way in ("train", "eval", "analysis", "shift"):
        done(work, WAYS[way])
    calls = done(work, WAYS["ssl"]).calls
    done(work, [*WAYS["train"], "--normalize", "l2", "--out", "others"])
    shutil.move(next((work / "others").iterdir()), work / "second")
    run = next((work / _RUN).glob("toy-*")).relative_to(work).as_posix()
    WAYS["compare"][2], WAYS["config"][2] = run, f"{run}/settings.toml"
    shutil.rmtree(folder)
    shutil.move(work, folder)
    files: dict[str, list[tuple[Path, tuple[str, ...]]]] = {}
    for top, table, prefix in ((_RUN, _USED, ""), ("ssl", _USED_SSL, "ssl ")):
        run = next(path.parent for path in (folder / top).glob("*/config.json"))
        for file in sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size):
            inside = file.relative_to(run).as_posix()
            ways = next((ways for start, ways in table if inside.startswith(start)), None)
            if ways and file.suffix != ".lock" and "figures" not in inside:
                kind = prefix + next(start for start, _ in table if inside.startswith(start))
                if kind == "shifts/" and file.name in ("results.csv", "metrics.jsonl", "settings.toml"):
                    continue  # made anew each time, and read by nothing
                files.setdefault(kind, []).append((file.relative_to(folder), ways))
    for store in (folder / "feats" / "toy").rglob("*.zarr"):
        for file in (path for path in store.rglob("*") if path.is_file() and path.stat().st_size):
            files.setdefault("store", []).append((file.relative_to(folder), ("fresh", "more", "advise")))
    return Place(folder, files, calls)


def _killed_training(place: Place, work: Path, rng: random.Random) -> list[Path]:
    """Train without labels and kill it: the checkpoints and networks that the same command goes on from."""
    while True:
        shutil.rmtree(work / "ssl")
        forked.run(WAYS["ssl"], work, at_call=rng.randrange(place.calls))
        recorded = {path.stem for path in work.glob("ssl/*/cells/*.json")}
        networks = sorted(work.glob("ssl/*/models/*.safetensors"))
        trained = {path.stem for path in networks if path.with_suffix(".json").exists()}
        files = [path for path in sorted(work.glob("ssl/*/checkpoints/*.pt")) if path.stem not in trained]
        for path in networks:  # `CELL-c0`: candidate 0 of a cell
            if path.stem in trained and path.stem.rpartition("-c")[0] not in recorded:
                files += [path, path.with_suffix(".json")]
        if files:
            return [path.relative_to(work) for path in files]


def _draw_nothing() -> None:
    """Make figures empty."""
    from matplotlib.figure import Figure

    def savefig(_: Figure, stream: BinaryIO, **_options: object) -> None:
        stream.write(b'<svg width="1" height="1"></svg>')

    Figure.savefig = savefig


def trial(place: Place, kind: str, known: dict[str, Whole], rng: random.Random) -> str:
    """Change one byte of one file, run one command that uses it; what became of that."""
    file, ways = rng.choice(place.files[kind]) if kind in place.files else (None, ("ssl",))
    way = rng.choice(ways)
    work = place.folder.with_name("trial")
    if way not in known:
        _laid_out(place.folder, work)
        known[way] = Whole(_answer(way, done(work, WAYS[way])), content(work))
        shutil.rmtree(work)
    _laid_out(place.folder, work)
    file = file or rng.choice(_killed_training(place, work, rng))
    shutil.copy2(work / file, work / "flipped")
    (work / "flipped").replace(work / file)
    at = flip(work / file, rng)
    said = forked.run(WAYS[way], work)
    word = _became(known[way], way, said, file, work)
    if word in ("UNNOTICED", "WRONG"):
        print(f"{word}: {way} after byte {at} of {file}: exit {said.code} {said.err[-400:]!r}", flush=True)
    shutil.rmtree(work)
    return word


def _laid_out(folder: Path, work: Path) -> None:
    """A copy that shares its files: whoever changes one puts another in its place."""
    shutil.copytree(folder, work, copy_function=os.link)


def flip(file: Path, rng: random.Random) -> int:
    """Change one byte of a file where it lies; which one."""
    at = rng.randrange(file.stat().st_size)
    with file.open("r+b") as stream:
        stream.seek(at)
        was = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([was ^ rng.randrange(1, 256)]))
    return at


def _became(whole: Whole, way: str, said: forked.Said, file: Path, work: Path) -> str:
    if "Traceback" in said.err or said.code not in (0, 1, 2) or "unexpected" in said.err:
        return "WRONG"
    names = [file.name, *(path.name for path in file.parents if path.suffix == ".zarr")]
    named = any(name in said.err for name in names)
    if said.code:
        return "noticed" if named and said.err.count("error:") == 1 else "WRONG"
    same = _answer(way, said) == whole.answer
    if way in ("train", "ssl", "fresh", "config"):
        try:
            same = content(work) == whole.left
        except ValueError:
            same = False  # a damaged document is still there
    if same:
        return "noticed" if named else "harmless"
    taken_out = way == "train" and "is taken out" in said.err  # a rival's cell, which `uml eval` adds
    return "noticed" if named and (taken_out or way in ("report", "analysis", "config")) else "UNNOTICED"


def _answer(way: str, said: forked.Said) -> Any:
    return lasting(json.loads(said.out)) if "--json" in WAYS[way] else None


if __name__ == "__main__":
    main()
