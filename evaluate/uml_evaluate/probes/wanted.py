"""Which cells probes have in a run, by what its configuration says; fitting them is `cells`' work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from uml_cache import InputError, unknown
from uml_evaluate.comparing.rows import PROBES, RIVALS
from uml_train import Cell, Run, Shots, named_cells

Needs = Literal["target", "auxiliary", "joint"]
NEEDS: dict[str, Needs] = {
    "textbook": "target",
    "knn": "target",
    "ncm": "target",
    "lda": "target",
    "logreg": "target",
    "logreg-sklearn": "target",
    "ridge-text": "auxiliary",
    "zeroshot": "joint",
    "cross-modal": "joint",
    "tip-adapter": "joint",
    "tip-adapter-f": "joint",
    "lp++": "joint",
}
"""What a probe is fitted to: the target's rows alone, an auxiliary's too, or an auxiliary's whose encoder
shares a space with the target's."""


@dataclass(frozen=True)
class Wanted:
    """A probe's cell and the cell of `uml train` whose rows it is fitted to."""

    cell: Cell
    rows_of: Cell


def probe_names(text: str) -> tuple[str, ...]:
    """`all` for every rival, or names such as `lda,ncm`. Raises `InputError` for an unknown one."""
    names = RIVALS if text == "all" else tuple(dict.fromkeys(n.strip() for n in text.split(",") if n.strip()))
    for name in names:
        if name not in PROBES:
            raise unknown("rival", name, ["all", *PROBES])
    if not names:
        raise InputError(f"--rivals is {text!r}; name some of {', '.join(PROBES)}, or `all`")
    return names


def wanted_probes(run: Run, names: Sequence[str], shots: Sequence[Shots]) -> tuple[list[Wanted], list[str]]:
    """The cells of all probes that fit the run, and a sentence for every one that does not."""
    settings = replace(run.settings, methods=("unimodal", "uml-init"), controls=())
    templates = named_cells(run, settings, shots)
    stores = run.config["stores"]
    space = stores[run.config["target"]].get("joint_space")
    wanted, remarks = [], []
    for name in names:
        needs = NEEDS[name]
        if needs == "target":
            own = [t for t in templates if t.method == "unimodal"]
            wanted += [Wanted(replace(t, method=name), t) for t in own]
            continue
        for labels in dict.fromkeys(t.auxiliaries for t in templates if t.auxiliaries) or [()]:
            theirs = stores[labels[0]].get("joint_space") if labels else None
            if not labels or (needs == "joint" and (space is None or theirs != space)):
                remarks.append(_left_out(run, name, needs, labels))
                continue
            for t in templates:
                if t.auxiliaries == labels:
                    rows_of = replace(t, aligned=True) if needs == "joint" else t
                    wanted.append(Wanted(replace(t, method=name), rows_of))
    return wanted, remarks


def _left_out(run: Run, name: str, needs: str, labels: tuple[str, ...]) -> str:
    target = run.config["target"]
    if not labels:
        return f"{name} is left out: it needs another modality, and {run.path} has {target} alone"
    encoders = [run.config["stores"][label]["encoder"] for label in (target, labels[0])]
    return (
        f"{name} is left out for {target} ← {' + '.join(labels)}: it needs encoders with a joint space, "
        f"such as CLIP's two towers, and {encoders[0]} and {encoders[1]} have none"
    )
