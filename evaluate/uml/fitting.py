"""`fit`: what `uml train` does, on embedded samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uml.embedding import Embedded, cache_folder
from uml.result import Result
from uml.shown import shown
from uml.stores import as_embedded, samples_of, write_stores
from uml_cache import InputError, declared, unknown
from uml_evaluate import add_textbook
from uml_train import TrainSettings, train

_OWN = ("cache", "dataset", "target", "auxiliaries", "out", "seeds", "shots")


def fit(
    target: Embedded | tuple[Any, Any],
    aux: Mapping[str, Embedded | tuple[Any, Any]] | None = None,
    *,
    shots: int | str | Sequence[int | str] | None = None,
    seeds: int | Sequence[int] = 5,
    name: str = "data",
    out: str | Path | None = None,
    textbook: bool = True,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """Train heads on the target's features, with and without unpaired samples of other modalities.

    It is the engine of `uml train`: stores and a run on disk, so that the same call goes on where it was
    stopped, and `uml eval`, `uml report` and `uml predict` read the run.

    Args:
        target: what is classified, with labels: what `embed` gave, or a pair (features (N, D), labels (N,)).
            Without splits a seeded stratified 60/20/20 is drawn.
        aux: unpaired samples by a name of your choice; they meet the target by class name. Several are
            used each alone and all together.
        shots: labelled samples per class: a number, "all", or several. Default: those of 1, 2, 4, 8, 16 that
            the data can give.
        seeds: how many draws (5 stands for the seeds 1 to 5), or which seeds.
        name: what tables call the data.
        out: folder for the stores and the run. Default: a folder of the cache.
        textbook: whether the best textbook classifier is fitted to the same draws, as a row of the table.
        progress: whether a bar is shown.
        settings: any setting of `uml train` by its name, such as `methods="uml,unimodal"`,
            `controls="permuted"` or `grid="quick"`.

    Raises:
        InputError: no labels, no class in common, a class with fewer samples than asked for, an unknown
            setting.
    """
    known = declared(TrainSettings)
    for word in settings:
        if word not in known or word in _OWN:
            raise unknown("setting", word, set(known) - set(_OWN))
    output = shown(progress)
    own = as_embedded(target, "the target", output)
    if isinstance(aux, Embedded | tuple):
        raise InputError('aux takes unpaired samples by name, such as aux={"text": texts}')
    others = {label: as_embedded(one, f"aux {label!r}", output) for label, one in (aux or {}).items()}
    root = cache_folder() / "fits" if out is None else Path(out)
    folder, label, labels = write_stores(root, name, own, others)
    configurations = [(one,) for one in labels] + ([tuple(labels)] if len(labels) > 1 else [])
    values = {word: known[word].read(_words(value), word) for word, value in settings.items()}
    chosen = TrainSettings(
        cache=folder,
        dataset=name,
        target=label,
        auxiliaries=tuple(configurations),
        shots=None if shots is None else known["shots"].read(_words(_list(shots)), "shots"),
        seeds=tuple(range(1, seeds + 1)) if isinstance(seeds, int) else tuple(seeds),
        out=root / "runs",
        **values,
    )
    run = train(chosen, output=output)
    if textbook:
        add_textbook(run, shots=run.settings.shots or (), output=output)
    roles = zip((label, *labels), (own, *others.values()), strict=True)
    samples = {role: found for role, one in roles if (found := samples_of(one)) is not None}
    return Result(run, loading=own.loading, samples=samples)


def _list(value: Any) -> list[Any]:
    return [value] if isinstance(value, int | float | str) else list(value)


def _words(value: Any) -> Any:
    """Several values as the settings take them."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value
