"""`uml demo`: from nothing to a report, on a data set that is rendered on the spot.

    OUT/demo.json    the seed        OUT/feats   feature stores       OUT/results.csv   both runs' models
    OUT/data         rendered files  OUT/runs    one run per target   OUT/report.html, report.md, figures/

Every stage finds what an earlier call has done, so that the same call goes on where one was stopped.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uml_cache import QUIET, InputError, Output, make_folder, parse_json
from uml_evaluate.comparing.comparison import Comparison, table
from uml_evaluate.comparing.shown.summary import summary
from uml_evaluate.comparing.shown.tables import accuracies, averages
from uml_evaluate.evaluation import add_textbook
from uml_evaluate.report.html import write_report
from uml_extract import extract
from uml_manifests import render_shapes
from uml_train import CONTROLS, TrainSettings, train, write_atomic

if TYPE_CHECKING:
    from uml_train import Run

SHOTS = (1, 2, 4, 8)
SEEDS = 5
ENCODERS = {"image": "hog-color", "text": "hashed-ngrams", "audio": "log-mel"}
# A report shows the newest run first; pictures are the main thing here.
TARGETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "audio": (("text", "image"),),
    "image": (("text",), ("text", "audio")),
}


@dataclass(frozen=True)
class Demo:
    """A finished demo."""

    out: Path
    report: Path
    results: Path
    seconds: float
    comparisons: list[Comparison]

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml demo --json`."""
        return {
            "out": str(self.out),
            "report": str(self.report),
            "results": str(self.results),
            "seconds": round(self.seconds, 1),
            "table": [row.to_json() for row in table(self.comparisons)],
            "differences": [d.to_json() for c in self.comparisons for d in c.differences],
        }

    def text(self) -> str:
        """Tables, summaries and where the report is, for the terminal."""
        tables = [f"{accuracies(c)}\n\n{averages(c)}" for c in self.comparisons]
        said = [summary(c) for c in self.comparisons]
        where = f"report   {self.report}\nresults  {self.results}\n{self.seconds:.0f} s in all"
        return "\n\n\n".join(tables) + "\n\n\n" + "\n\n".join([*said, where])


def run_demo(
    out: Path | str,
    *,
    seed: int = 0,
    shots: Sequence[int] = SHOTS,
    seeds: int = SEEDS,
    sizes: dict[str, int] | None = None,
    grid: str = "auto",
    output: Output = QUIET,
) -> Demo:
    """Render, extract, train and report; see the module's text for what it writes.

    Args:
        out: the demo's folder.
        seed: fixes the rendered data and the training seeds, 1 … `seeds` shifted by it.
        shots: labelled samples per class.
        seeds: draws per cell.
        sizes: samples per class, arguments of `render_shapes`; None takes its own.
        grid: the search grid.

    Raises:
        InputError: the folder holds the demo of another seed or something else.
    """
    clock = _Clock(output)
    out = Path(out)
    _claim(out, {"seed": seed, "sizes": sizes or {}})
    manifests = render_shapes(out / "data", seed=seed, **(sizes or {}))
    counts = ", ".join(f"{len(manifest)} {name}" for name, manifest in manifests.items())
    clock.say(f"rendered {counts} samples of {len(manifests['image'].classes)} classes, none of them paired")
    for modality, encoder in ENCODERS.items():
        done = extract(manifests[modality], encoder, out=out / "feats", output=output)
        clock.say(f"extracted {done.rows} {modality} samples with {encoder}")
    runs: list[Run] = []
    for target, auxiliaries in TARGETS.items():
        settings = TrainSettings(
            cache=out / "feats",
            dataset=manifests[target].name,
            target=target,
            auxiliaries=auxiliaries,
            controls=CONTROLS,
            shots=tuple(shots),
            seeds=tuple(range(1 + seeds * seed, 1 + seeds * (seed + 1))),
            grid=grid,
            out=out / "runs",
        )
        runs.append(train(settings, output=output))
        add_textbook(runs[-1], shots=tuple(shots), output=output)
        names = " and ".join(" + ".join(labels) for labels in auxiliaries)
        clock.say(f"trained {len(runs[-1].finished())} cells for {target} ← {names}")
    results = out / "results.csv"
    _join_results(runs, results)
    written = write_report(out / "runs", out=out / "report.html", output=output)
    clock.say(f"wrote {written.path}")
    return Demo(out, written.path, results, clock.seconds, written.comparisons)


class _Clock:
    """Remarks with the time since the beginning."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, message: str) -> None:
        minutes, seconds = divmod(int(self.seconds), 60)
        self._output.say(f"[{minutes}:{seconds:02d}] {message}")


def _claim(out: Path, asked: dict[str, Any]) -> None:
    """Mark the folder as the demo of these choices, or refuse one that is something else."""
    mark = out / "demo.json"
    if out.is_dir() and any(out.iterdir()):
        try:
            there = parse_json(mark.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(f"{out} holds other files than a demo; choose another --out") from None
        if there != asked:
            raise InputError(f"{out} holds the demo of {there}, not of {asked}; choose another --out")
        return
    try:
        make_folder(out)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"--out {out} is not a folder; choose another") from None
    write_atomic(mark, json.dumps(asked).encode())


def _join_results(runs: Sequence[Run], path: Path) -> None:
    """One table of all models: the runs' `results.csv` below each other."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, run in enumerate(runs):
        with (run.path / "results.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        writer.writerows(rows if i == 0 else rows[1:])
    write_atomic(path, text.getvalue().encode())
