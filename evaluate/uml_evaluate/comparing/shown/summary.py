"""What the unpaired data added, in a sentence and bullet points, whichever way the numbers fall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_evaluate.comparing.comparison import Comparison
from uml_evaluate.comparing.rows import ORDER, PROBES, TEXTBOOK, Difference
from uml_evaluate.comparing.shown.headline import headline
from uml_evaluate.comparing.shown.numbers import signed, with_bounds
from uml_evaluate.comparing.verdict import CANNOT_TELL, HELPS, HURTS, MIN_DRAWS, NO_DIFFERENCE, tells

if TYPE_CHECKING:
    from uml_train import Shots

_FEW_GROUPS = 10
_CONTROLS = {
    "permuted": "With its classes permuted",
    "random": "Random class vectors in its place",
}
_NOISE = {"random": "Noise in its place"}


def summary(comparison: Comparison) -> str:
    """The headline, one sentence of at most 25 words, and below it what it rests on as bullet points."""
    return "\n".join([headline(comparison), *(f"- {point}" for point in points(comparison))])


def points(comparison: Comparison) -> list[str]:
    """What the auxiliaries added, how much of the gap to the plain linear layer is the deeper head, what the
    controls did and which caveats hold; over all shots of the comparison, a short text each.

    Without a method that trains on auxiliaries only what the textbook classifier beats is left to say.
    """
    found = {(d.a, d.b): d for d in comparison.averaged}
    data = found.get(("uml", comparison.baseline))
    on_top = found.get(("uml-init", "init-only"))
    prior = found.get(("prior", "ridge"))
    main = data or on_top or prior
    below = below_textbook(comparison)
    if main is None:
        return [below] if below else []
    said = [
        f"{_setting(comparison)}, {_data(comparison.auxiliaries)} {_effect(main)}.",
        *_ends(comparison, main),
        *_opposite(comparison, main, on_top),
    ]
    if data and on_top:
        said.append(f"On top of an initialisation from its class means: {with_bounds(on_top.interval)}.")
    said += [*_head_share(found), *_controls(comparison, found)]
    if prior is not None and main is not prior:
        said.append(f"As a prior on the classes of ridge regression: {with_bounds(prior.interval)}.")
    guessed = found.get(("self-training", "ridge"))
    if guessed is not None:
        said.append(
            f"Rows without labels, on which ridge regression trains as it guesses them: "
            f"{with_bounds(guessed.interval)}."
        )
    return [*said, *([below] if below else []), *_caveats(comparison)]


def below_textbook(comparison: Comparison) -> str:
    """Which heads the best textbook classifier beats beyond chance, on average or at some shots."""
    heads = {method for method, control in comparison.arms if control is None}
    said = []
    for method in (m for m in ORDER if m in heads and m not in PROBES):
        found = [
            d
            for d in (*comparison.averaged, *comparison.differences)
            if (d.a, d.b) == (method, TEXTBOOK) and d.interval.verdict == HURTS
        ]
        average = [d for d in found if d.shots is None or len(comparison.shots) == 1]
        if average:
            said.append(f"{method} {with_bounds(average[0].interval)}")
        elif found:
            where = (f"{with_bounds(d.interval)} {_at(d.shots)}" for d in found)
            said.append(f"{method} {', '.join(where)}")
    if not said:
        return ""
    what = "the best textbook classifier (ridge or logistic regression on the same rows)"
    return f"Below {what}: {'; '.join(said)}."


def _setting(comparison: Comparison) -> str:
    names = [str(k) for k in comparison.shots]
    if len(names) == 1:
        many = "all" if names == ["all"] else names[0]
        plural = "" if names == ["1"] else "s"
        return f"With {many} labelled {comparison.target} sample{plural} per class"
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"Averaged over {listed} labelled {comparison.target} samples per class"


def _data(auxiliaries: tuple[str, ...]) -> str:
    """`unpaired text`, `unpaired data (text and audio)`: either is one thing that helps or hurts."""
    return (
        f"unpaired {auxiliaries[0]}"
        if len(auxiliaries) == 1
        else f"unpaired data ({' and '.join(auxiliaries)})"
    )


def _ends(comparison: Comparison, main: Difference) -> list[str]:
    """What the average hides: the difference at the fewest and at the most shots."""
    if len(comparison.shots) < 2:
        return []
    by_shots = {d.shots: d for d in comparison.differences if (d.a, d.b) == (main.a, main.b)}
    ends = [k for k in (comparison.shots[0], comparison.shots[-1]) if k in by_shots]
    said = [f"{signed(by_shots[k].interval.delta)} {_at(k)}" for k in ends]
    return [f"The difference is {' and '.join(said)}."] if said else []


def _at(shots: Shots | None) -> str:
    return "with all labels" if shots == "all" else f"at k = {shots}"


def _effect(difference: Difference) -> str:
    interval, against = difference.interval, f"{difference.a} − {difference.b}"
    if interval.low is None:
        seeds = f"{interval.draws} seed{'s' if interval.draws != 1 else ''}"
        return (
            f"changed accuracy by {signed(interval.delta)} points ({against}), but {seeds} cannot show "
            f"whether that is more than chance: it takes {MIN_DRAWS}"
        )
    assert interval.high is not None
    bounds = f"{signed(interval.low)} to {signed(interval.high)}"
    numbers = f"{against}, 95 % interval {bounds}, {interval.draws} seeds"
    delta = f"{signed(interval.delta)} points"
    if interval.verdict in (HELPS, HURTS):
        return f"{interval.verdict}: {delta} over the same network without it ({numbers})"
    if interval.verdict == NO_DIFFERENCE:
        return f"makes {NO_DIFFERENCE}: {delta} ({numbers})"
    return f"may help or hurt, these seeds {CANNOT_TELL}: {delta} ({numbers}); {tells(interval)}"


def _opposite(comparison: Comparison, main: Difference, on_top: Difference | None) -> list[str]:
    """Numbers of shots at which the data moved accuracy, beyond chance, against the average's direction."""
    said = []
    for average in [main] if on_top in (None, main) else [main, on_top]:
        for d in comparison.differences:
            same = (d.a, d.b) == (average.a, average.b) and d.shots is not None
            if same and d.interval.excludes_zero and d.interval.delta * average.interval.delta < 0:
                effect = f"{d.interval.verdict}: {with_bounds(d.interval)}"
                said.append(f"But {_at(d.shots)} it {effect} ({d.a} − {d.b}).")
    return said


def _caveats(comparison: Comparison) -> list[str]:
    """What the interval does not cover."""
    said = []
    if comparison.shots == ["all"]:
        said.append(
            "All seeds train on the same rows: they vary initialisation and batch order, not the draw."
        )
    groups = comparison.test_groups
    if groups is not None and groups < _FEW_GROUPS:
        said.append(
            f"The test rows come from {groups} group{'s' * (groups != 1)} only (speakers, patients …): the "
            "intervals do not cover how others would differ."
        )
    return said


def _head_share(found: dict[tuple[str, str], Difference]) -> list[str]:
    depth = found.get(("unimodal-deep", "unimodal"))
    total = found.get(("uml", "unimodal"))
    if depth is None or total is None:
        return []
    head, whole = depth.interval.delta, total.interval.delta
    if 0 <= head <= whole:
        share = f"{signed(head)} of the {signed(whole)} points"
        return [
            f"The deeper head alone, without unpaired data: {share} between uml and the plain linear layer."
        ]
    return [
        f"Against the plain linear layer: uml {signed(whole)}; the deeper head alone, without unpaired data, "
        f"{signed(head)}."
    ]


def _controls(comparison: Comparison, found: dict[tuple[str, str], Difference]) -> list[str]:
    baseline = comparison.baseline
    method = "uml" if ("uml", baseline) in found else "uml-init"
    if not {(method, baseline), ("uml-init", "init-only")} & set(found):
        method, baseline = "prior", "ridge"
    replaced = _NOISE if comparison.on_sequences else _CONTROLS
    said = []
    for control, what in replaced.items():
        against_none = found.get((f"{method}[{control}]", baseline))
        if against_none is None:
            continue
        interval = against_none.interval
        hidden = "" if interval.low is None or interval.excludes_zero else _starred(comparison, against_none)
        text = f"{what}: {with_bounds(interval)}{hidden}"
        if interval.low is not None:
            helps_too = ", too" if interval.verdict == HELPS else ""
            text += f", {interval.verdict}{helps_too}{' on average' if hidden else ''}"
        data = found.get((method, f"{method}[{control}]"))
        if data is not None and interval.verdict == HELPS:
            text += f"; what it says of the classes is worth {with_bounds(data.interval)}"
        said.append(f"{text}.")
    return said


def _starred(comparison: Comparison, average: Difference) -> str:
    """The numbers of shots at which a difference is beyond chance although its average is not."""
    if len(comparison.shots) < 2:
        return ""
    said = [
        f"{d.shots if d.shots == 'all' else f'k = {d.shots}'}: {with_bounds(d.interval)}"
        for d in comparison.differences
        if (d.a, d.b) == (average.a, average.b) and d.shots is not None and d.interval.excludes_zero
    ]
    return f" (but {', '.join(said)})" if said else ""
