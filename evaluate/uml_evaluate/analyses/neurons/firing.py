"""Neurons of a shared network that answer to the same samples in both modalities (arXiv v1, 4.5, F.1).

Shapes: n pairs, W neurons, C classes, P permutations, E snapshots.

For sample i, neuron j has an activation in the target's pathway and one in the auxiliary's; r_j is their
Pearson correlation over the pairs, and r_j^(y) that among the pairs of one label. The pairs serve the
analysis alone. Two baselines stand beside it: the same network before its first step, as in the paper, and
the same activations with the pairs permuted, which is what no pairing gives. A network that never learnt may
correlate, too, since a random map of two views of one thing is two views of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uml_cache import InputError
from uml_evaluate.analyses.finding import Finding, NotPossible, Table
from uml_evaluate.analyses.neurons.correlation import (
    label_correlations,
    neuron_correlations,
    permuted_correlations,
)
from uml_evaluate.analyses.reading import cell_fields, mean_std_text
from uml_evaluate.comparing.shown.figures import GREY, INK, new_figure, style
from uml_evaluate.comparing.statistics import generator_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from uml_evaluate.analyses.neurons.network_reading import NetworkReading
    from uml_train import CellResult

VERSION = 1
TITLE = "Neurons of both modalities"
PAPER = "v1 4.5, F.1 and Figures 10, 11, 40"
_POSITIVE, _NEGATIVE = 6, 3  # neurons whose course is shown, as many as the paper names
_PERMUTATIONS = 200
_FEWEST = 10  # pairs; of fewer a correlation says nothing


def analyse(reading: NetworkReading) -> Finding:
    """Correlations of every network of the configuration, by seed and control."""
    records: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for result in reading.cells:
        record, own = _one(reading, result)
        arrays |= {f"{name}.{len(records)}": values for name, values in own.items()}
        records.append(record)
    names = reading.classes
    target, auxiliary = records[0]["target"], records[0]["auxiliary"]
    tables = [_summary(records, names), _strongest(records)]
    return Finding(
        analysis="neurons",
        title=TITLE,
        paper=PAPER,
        auxiliaries=reading.auxiliaries,
        said=_said(records),
        notes=_notes(records),
        tables=tables,
        values={"cells": records, "classes": names, "permutations": _PERMUTATIONS},
        arrays=arrays,
        caption=f"Correlation of each neuron between the pathways of {target} and {auxiliary}: all neurons "
        "against the untrained network (grey band: 95 % of permuted pairs), within each label, and the "
        f"course of the {_POSITIVE} strongest positive and {_NEGATIVE} strongest negative ones.",
    )


def _one(
    reading: NetworkReading, result: CellResult
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    try:
        found = reading.pathways(result)
    except InputError as error:
        raise NotPossible(str(error)) from None
    if len(found.ids) < _FEWEST:
        raise NotPossible(
            f"only {len(found.ids)} samples are in both {found.target} and {found.auxiliary} by their ids, "
            f"and correlations need {_FEWEST}"
        )
    r, begun = neuron_correlations(*found.trained), neuron_correlations(*found.untrained)
    rng = generator_for("neurons", r.shape, result.cell.seed)
    permuted = permuted_correlations(*found.trained, permutations=_PERMUTATIONS, rng=rng)
    low, high = np.quantile(permuted, [0.025, 0.975])
    # What the strongest of all neurons reaches without pairs in 95 of 100 cases.
    bound = float(np.quantile(np.abs(permuted).max(1), 0.95))
    by_label = label_correlations(*found.trained, found.labels, len(reading.classes))
    order = np.argsort(r)
    positive = [int(j) for j in order[::-1][:_POSITIVE] if r[j] > 0]
    negative = [int(j) for j in order[:_NEGATIVE] if r[j] < 0]
    strongest = [*positive, *negative]
    epochs = sorted(found.snapshots)
    course = np.stack([begun, *(neuron_correlations(*found.snapshots[e]) for e in epochs)])
    record = {
        **cell_fields(result), "target": found.target, "auxiliary": found.auxiliary, "pairs": len(found.ids),
        "neurons": len(r), "largest": float(np.abs(r).max()),
        "largest_untrained": float(np.abs(begun).max()), "permuted_low": float(low),
        "permuted_high": float(high), "permuted_largest": bound,
        "beyond_permuted": int((np.abs(r) > bound).sum()),
        "beyond_untrained": int((np.abs(r) > np.abs(begun).max()).sum()),
        "positive": positive, "negative": negative,
        "r": {str(j): float(r[j]) for j in strongest},
        "r_untrained": {str(j): float(begun[j]) for j in strongest},
        "r_by_label": {
            name: {str(j): float(by_label[c, j]) for j in strongest}
            for c, name in enumerate(reading.classes)
        },
        "strength": float(np.abs(r[strongest]).mean()) if strongest else 0.0,
        "strength_by_label": {
            name: float(np.abs(by_label[c, strongest]).mean()) if strongest else 0.0
            for c, name in enumerate(reading.classes)
        },
        "epochs": [0, *epochs],
    }  # fmt: skip
    return record, {"r": r, "untrained": begun, "label": by_label, "course": course}


def _summary(records: list[dict[str, Any]], classes: list[str]) -> Table:
    rows = [
        [
            r["method"], str(r["seed"]), str(r["pairs"]), f"{r['largest']:.2f}",
            f"{r['largest_untrained']:.2f}", f"{r['permuted_largest']:.2f}",
            f"{r['beyond_permuted']} of {r['neurons']}", f"{r['beyond_untrained']}", f"{r['strength']:.2f}",
            *(f"{r['strength_by_label'][name]:.2f}" for name in classes),
        ]
        for r in records
    ]  # fmt: skip
    head = [
        "method", "seed", "pairs", "largest |r|", "untrained", "permuted", "beyond permuted",
        "beyond untrained", "strongest, all", *(f"{name}" for name in classes),
    ]  # fmt: skip
    caption = (
        "Largest |r| over neurons; of the same network untrained; what the strongest reaches in 95 % of "
        f"permuted pairs; how many neurons are beyond either; mean |r| of the {_POSITIVE + _NEGATIVE} "
        "strongest, over all pairs and within each label"
    )
    return Table(caption=caption, head=head, rows=rows)


def _strongest(records: list[dict[str, Any]]) -> Table:
    first = records[0]
    rows = [
        [
            str(j),
            f"{first['r'][str(j)]:.2f}".replace("-", "−"),
            f"{first['r_untrained'][str(j)]:.2f}".replace("-", "−"),
            *(f"{by[str(j)]:.2f}".replace("-", "−") for by in first["r_by_label"].values()),
        ]
        for j in [*first["positive"], *first["negative"]]
    ]
    caption = f"The strongest neurons of {first['method']}, seed {first['seed']}"
    return Table(caption=caption, head=["neuron", "r", "untrained", *first["r_by_label"]], rows=rows)


def _said(records: list[dict[str, Any]]) -> list[str]:
    said = []
    for method in dict.fromkeys(r["method"] for r in records):
        mine = [r for r in records if r["method"] == method]
        beyond = sum(r["beyond_permuted"] > 0 for r in mine)
        above = sum(r["largest"] > r["largest_untrained"] for r in mine)
        verdict = "seeds disagree"
        if beyond == len(mine):
            verdict = "some neurons answer to both modalities"
            verdict += ", more than before training" if above == len(mine) else ""
            verdict += "" if above else ", no more than before training"
        elif not beyond:
            verdict = "no neuron answers to both modalities"
        said.append(
            f"{method}: {verdict}. In {beyond} of {len(mine)} seeds neurons go beyond what permuted pairs "
            f"reach; the largest |r| is {mean_std_text([r['largest'] for r in mine])}, of the untrained "
            f"network {mean_std_text([r['largest_untrained'] for r in mine])} (trained is larger in {above} "
            f"of {len(mine)} seeds)."
        )
        order = _label_order(mine)
        if order:
            said.append(f"{method}: mean |r| of the strongest neurons: {order}.")
    return said


def _label_order(records: list[dict[str, Any]]) -> str:
    """Such as `not sarcastic 0.61 > all 0.55 > sarcastic 0.48`, means over seeds."""
    means = {"all": float(np.mean([r["strength"] for r in records]))}
    for name in records[0]["strength_by_label"]:
        means[name] = float(np.mean([r["strength_by_label"][name] for r in records]))
    if len(means) < 3:
        return ""
    return " > ".join(f"{k} {v:.2f}" for k, v in sorted(means.items(), key=lambda item: -item[1]))


def _notes(records: list[dict[str, Any]]) -> list[str]:
    first = records[0]
    notes = [
        f"A neuron is an output of the shared trunk, averaged over a sequence; {first['pairs']} samples are "
        f"in both {first['target']} and {first['auxiliary']} by their ids, those of the training part with "
        "them. Training never knew which belong together.",
        "Pathways share more than meaning: the length of a clip is in both. What permuted pairs reach is "
        "chance alone; what the untrained network reaches is what pairs share before anything is learnt.",
    ]
    if len(first["epochs"]) < 2:
        notes.append("No snapshots were kept; `uml pretrain --snapshots 1` keeps one after every epoch.")
    return notes


def figure(finding: Finding) -> Figure:
    """The first network: its neurons against the untrained, within labels, and over epochs."""
    record, arrays = finding.values["cells"][0], finding.arrays
    with style():
        drawn = new_figure(11.4, 3.4)
        left, middle, right = drawn.subplots(1, 3)
        _distribution(left, record, arrays["r.0"], arrays["untrained.0"])
        _labels(middle, record, finding.values["classes"])
        _course(right, record, arrays["course.0"])
        drawn.tight_layout()
    return drawn


def _distribution(axes: Axes, record: dict[str, Any], r: NDArray[Any], begun: NDArray[Any]) -> None:
    reach = max(np.abs(r).max(), np.abs(begun).max(), record["permuted_largest"]) * 1.05
    bins = np.linspace(-reach, reach, 31).tolist()
    axes.axvspan(record["permuted_low"], record["permuted_high"], color=GREY, alpha=0.25, linewidth=0)
    axes.hist(begun, bins, histtype="step", color=INK, linewidth=1.2, label="untrained")
    axes.hist(r, bins, color="#D55E00", alpha=0.65, label="trained")
    axes.set_xlabel("correlation of a neuron, r")
    axes.set_ylabel("neurons")
    axes.legend(frameon=False, fontsize=8)


def _labels(axes: Axes, record: dict[str, Any], classes: list[str]) -> None:
    strongest = [str(j) for j in (*record["positive"], *record["negative"])]
    columns = {"all": record["r"], **{name: record["r_by_label"][name] for name in classes}}
    for neuron in strongest:
        values = [column[neuron] for column in columns.values()]
        axes.plot(range(len(columns)), values, "o-", color=GREY, linewidth=0.8, markersize=4)
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(columns)), list(columns), rotation=20 if len(columns) > 4 else 0)
    axes.set_ylabel("r of the strongest neurons")


def _course(axes: Axes, record: dict[str, Any], course: NDArray[Any]) -> None:
    if len(record["epochs"]) < 2:
        axes.text(0.5, 0.5, "no snapshots", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    for neurons, colour in ((record["positive"], "#0072B2"), (record["negative"], "#D55E00")):
        for j in neurons:
            axes.plot(record["epochs"], course[:, j], color=colour, linewidth=1.1)
            axes.annotate(str(j), (record["epochs"][-1], course[-1, j]), fontsize=6)
    axes.axhline(record["largest_untrained"], color=GREY, linestyle="--", linewidth=0.9)
    axes.axhline(-record["largest_untrained"], color=GREY, linestyle="--", linewidth=0.9)
    axes.set_xlabel("epoch")
    axes.set_ylabel("r")
