"""Numbers of findings, and of the same thing from several runs (folds)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from uml_evaluate.comparing.statistics import mean_std
from uml_evaluate.reproduce.recipe.published import Key, Number

if TYPE_CHECKING:
    from uml_evaluate.analyses.finding import Finding

WORDS = "words per sample"
SAMPLES = "auxiliary samples per sample"
IN_NUMBERS = "plane in the numbers themselves"
# Records of each analysis: where they are, and what their fields are called.
_RECORDS: dict[str, tuple[str, dict[str, str]]] = {
    "margin": (
        "cells",
        {
            "eq5_mean": "margin of equation 8",
            "functional_mean": "logit lead",
            "geometric_mean": "margin in the raw features",
        },
    ),
    "silhouette": ("spaces", {"silhouette": "silhouette", "davies_bouldin": "Davies-Bouldin index"}),
    "prototypes": ("cells", {"dominance": "dominance of prototypes", "nearest_percent": "nearest text, %"}),
    "alignment": ("cells", {"cka_debiased": "debiased CKA", "mutual_knn": "mutual neighbours"}),
    "boundary": ("models", {"right_between_two_percent": "right between the two, %"}),
    "neurons": (
        "cells",
        {
            "largest": "largest correlation of a neuron",
            "largest_untrained": "largest correlation, untrained",
            "permuted_largest": "largest correlation, permuted pairs (95 %)",
            "beyond_permuted": "neurons beyond permuted pairs",
            "strength": "mean correlation of the strongest",
        },
    ),
    "fisher": ("cells", {"classes_model_ratio": "information of an auxiliary row, in target rows"}),
    "theory": ("cells", {"rate_median": "target rows that an auxiliary row is worth"}),
}


def of_finding(finding: Finding, dataset: str, variant: str | None) -> Iterator[Number]:
    """The numbers of an analysis by method and shots, means over seeds."""
    values = finding.values
    if values.get("refused"):
        return
    if finding.analysis == "exchange":
        for field, measure in (("rate_words", WORDS), ("rate", SAMPLES)):
            if values.get(field):
                key = Key(dataset=dataset, variant=variant, measure=measure)
                yield Number(key=key, value=float(values[field][0]), seeds=len(values["seeds"]))
        if values.get("rate_linear") is not None:
            words = values.get("words_per_text")
            for times, measure in ((words, WORDS), (1.0, SAMPLES)):
                if times is not None:
                    key = Key(dataset=dataset, variant=variant, measure=f"{measure}, {IN_NUMBERS}")
                    value = float(values["rate_linear"]) * float(times)
                    yield Number(key=key, value=value, seeds=len(values["seeds"]))
        return
    where, names = _RECORDS[finding.analysis]
    found: dict[Key, list[float]] = defaultdict(list)
    for record in values[where]:
        method, _, control = str(record["method"]).partition("[")
        for field, measure in names.items():
            if isinstance(record.get(field), int | float):
                space = f" ({record['space']})" if "space" in record else ""
                key = Key(
                    dataset=dataset,
                    variant=variant,
                    shots=record.get("shots", values.get("shots")),
                    method=method,
                    control=control.rstrip("]") or None,
                    measure=measure + space,
                )
                found[key].append(float(record[field]))
    for key, several in found.items():
        mean, std = mean_std(several)
        yield Number(key=key, value=mean, std=std, seeds=len(several))


def pooled(values: Mapping[Any, Sequence[Number]]) -> list[Number]:
    """One number for each key: that of its only run, or the mean over runs with their spread."""
    numbers = []
    for key, several in values.items():
        if len(several) == 1:
            numbers.append(several[0])
            continue
        mean, std = mean_std(number.value for number in several)
        numbers.append(Number(key=key, value=mean, std=std, seeds=sum(n.seeds for n in several)))
    return numbers
