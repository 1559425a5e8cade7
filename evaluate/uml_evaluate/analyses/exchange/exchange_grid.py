"""The runs behind the exchange rate: the method with data, at several numbers of auxiliary samples per class.

They are ordinary runs in RUN/analyses/exchange, trained with the run's own settings; what is there already is
not trained again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_cache import QUIET, InputError
from uml_evaluate.analyses.finding import NotPossible
from uml_evaluate.analyses.reading import Reading, data_arm
from uml_manifests import resolve_data
from uml_train import require_content, train

if TYPE_CHECKING:
    from uml_cache import Output
    from uml_manifests import Manifest
    from uml_train import Run

_MOST = 64  # auxiliary samples per class


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """Accuracies (S, K, T) in percent of `method`; `without` (K lists) are unimodal-deep's.

    `words` is the mean number of words of an auxiliary text, None where they could not be counted.
    """

    method: str
    shots: list[int]
    texts: list[int]
    seeds: list[int]
    accuracy: NDArray[np.float64]
    without: list[list[float]]
    label_budgets: list[int]
    words: float | None
    remarks: list[str]


def accuracy_grid(reading: Reading, manifest: str | None, output: Output | None) -> Grid:
    """Train what the grid lacks and read it.

    Raises:
        NotPossible: no method with data, fewer than two numbers of shots or of auxiliary samples.
        InputError: stores that have changed since the run.
    """
    arm = data_arm(reading)
    shots = [k for k in reading.shots if k != "all"]
    if arm is None or len(shots) < 2:
        raise NotPossible(
            f"{reading.run.path} has "
            f"{'no method with data' if arm is None else f'{len(shots)} number of shots'}; the exchange "
            "takes uml at two numbers of shots or more, such as `uml train --shots 1,2,4`"
        )
    counts = [
        np.bincount(s.labels, minlength=len(reading.classes))
        for s in (reading.problem.auxiliaries[label] for label in reading.auxiliaries)
    ]
    fewest = min(int(c[c > 0].min()) for c in counts)
    texts = [2**i for i in range(_MOST.bit_length()) if 2**i <= min(fewest, _MOST)]
    if len(texts) < 2:
        raise NotPossible(
            f"a class of {' + '.join(reading.auxiliaries)} has {fewest} sample; the exchange takes two or "
            "more per class"
        )
    output = output or QUIET
    seeds = sorted({r.cell.seed for r in reading.of(arm)})
    output.say(
        f"exchange: {len(texts) * len(shots) * len(seeds)} cells of {arm[0]}, "
        f"{' + '.join(reading.auxiliaries)} samples "
        f"per class {', '.join(map(str, texts))}"
    )
    accuracy = np.full((len(seeds), len(shots), len(texts)), np.nan)
    budgets = [0] * len(shots)
    for j, n in enumerate(texts):
        run = _run(reading, arm[0], shots, seeds, n, output)
        for result in run.cells:
            cell = result.cell
            if cell.method == arm[0] and cell.shots in shots and cell.seed in seeds:
                i = shots.index(cell.shots)
                accuracy[seeds.index(cell.seed), i, j] = result.test_acc
                budgets[i] = result.label_budget
    deep = [r for r in reading.of(("unimodal-deep", None)) if r.cell.seed in seeds]
    words, remarks = _words(reading, manifest)
    return Grid(
        method=arm[0], shots=shots, texts=texts, seeds=seeds, accuracy=accuracy,
        without=[[r.test_acc for r in deep if r.cell.shots == k] for k in shots],
        label_budgets=budgets, words=words, remarks=remarks,
    )  # fmt: skip


def _run(
    reading: Reading, method: str, shots: list[int], seeds: list[int], texts: int, output: Output
) -> Run:
    parent = reading.run
    require_content(parent)
    settings = replace(
        parent.settings,
        cache=reading.cache or parent.settings.cache,
        auxiliaries=(reading.auxiliaries,),
        methods=(method,),
        controls=(),
        shots=tuple(shots),
        seeds=tuple(seeds),
        texts=texts,
        out=parent.path / "analyses" / "exchange",
    )
    run = train(settings, output=output)
    for label in (parent.config["target"], *reading.auxiliaries):
        theirs, ours = (r.config["stores"][label]["fingerprint"] for r in (run, parent))
        if theirs != ours:
            raise InputError(f"the store of {label} has changed since {parent.path} was trained; train again")
    return run


def _words(reading: Reading, manifest: str | None) -> tuple[float | None, list[str]]:
    """Mean words per sample of the first auxiliary, counted in its manifest."""
    source = reading.problem.auxiliaries[reading.auxiliaries[0]]
    if source.features.modality != "text" or len(reading.auxiliaries) > 1:
        return None, []
    found = _manifest(reading, manifest)
    if found is None:
        return None, [
            "Words were not counted: the texts' manifest is not beside the cache; --manifest PATH names it."
        ]
    words = float(np.mean([len(found.sources[row].split()) for row in source.rows]))
    return words, [f"A text has {words:.1f} words on average, counted in the manifest of {len(found)} texts."]


def _manifest(reading: Reading, path: str | None) -> Manifest | None:
    features = reading.problem.auxiliaries[reading.auxiliaries[0]].features
    ids = [str(i) for i in features.id]
    folder = features.modality if features.set is None else f"{features.modality}.{features.set}"
    names: dict[str, Any] = {"name": features.dataset, "set": features.set, "modality": "text"}
    if path is not None:
        found = resolve_data(path, **names)
        if list(found.ids) != ids:
            raise InputError(
                f"--manifest {path} does not hold the texts of {features.path}: its ids are others"
            )
        return found
    data = features.path.parents[3] / "data"
    for place in (data / features.dataset / folder, data / folder):
        if (place / "dataset.toml").is_file():
            found = resolve_data(str(place))
            if list(found.ids) == ids:
                return found
    return None
