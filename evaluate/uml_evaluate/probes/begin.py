"""A run of probes alone: the rows and draws of `uml train` for one store, and no heads."""

from __future__ import annotations

from pathlib import Path

from uml_cache import QUIET, Output
from uml_evaluate.probes.wanted import NEEDS
from uml_train import Ranks, Run, TrainSettings, begin_run, open_heads


def begin_probes(cache: Path, dataset: str | None, target: str, probe: str, out: Path, output: Output) -> Run:
    """The run folder that belongs to a store: made, or found as it was left.

    Args:
        target: `modality[.set][:encoder[@variant]]`. A probe that needs another modality takes every other
            one of the data set, each alone and all together.

    Raises:
        InputError: no such store, several that fit, or one without labels or test rows.
    """
    settings = TrainSettings(
        cache=cache,
        dataset=dataset,
        target=target,
        auxiliaries=() if NEEDS[probe] == "target" else None,
        methods=("unimodal",),
        out=out,
    )
    session = open_heads(settings, Ranks(), QUIET)
    for remark in session.problem.remarks:
        output.say(remark)
    return begin_run(session)
