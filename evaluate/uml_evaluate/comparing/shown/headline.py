"""What a comparison found, in one plain sentence that can be quoted, and the few rows that it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_evaluate.comparing.rows import TEXTBOOK, Arm, Difference, arm_name
from uml_evaluate.comparing.shown.numbers import signed
from uml_evaluate.comparing.verdict import CANNOT_TELL, HELPS, HURTS, NO_DIFFERENCE

if TYPE_CHECKING:
    from uml_evaluate.comparing.comparison import Comparison

_THINGS = {"image": "pictures", "text": "texts", "audio": "sounds", "array": "samples"}


def main_pair(comparison: Comparison) -> tuple[Arm, Arm] | None:
    """The method that trains on the unpaired data, and the same without it; None where there is no such pair.

    It is `uml`, else `uml-init`, else `prior`: the first that was trained, whatever its numbers are.
    """
    pairs = (("uml", comparison.baseline), ("uml-init", "init-only"), ("prior", "ridge"))
    for with_data, without in pairs:
        if (with_data, None) in comparison.arms and (without, None) in comparison.arms:
            return (with_data, None), (without, None)
    return None


def key_arms(comparison: Comparison) -> list[tuple[str, Arm]]:
    """The rows of the short table: without the data, with it, its controls, the best textbook classifier."""
    pair = main_pair(comparison)
    if pair is None:
        return [(arm_name(arm), arm) for arm in comparison.arms]
    with_data, without = pair
    what = things(comparison.auxiliaries)
    rows = [(f"without unpaired {what}", without), (f"with unpaired {what}", with_data)]
    words = {"permuted": f"with {what} of swapped classes", "random": "with random vectors in their place"}
    rows += [
        (words.get(control or "", f"with {control}"), (method, control))
        for method, control in comparison.arms
        if method == with_data[0] and control is not None
    ]
    textbook: Arm = (TEXTBOOK, None)
    if textbook in comparison.arms:
        rows.append(("best textbook classifier", textbook))
    return rows


def headline(comparison: Comparison) -> str:
    """Such as `birds: unpaired texts raised the accuracy on pictures by 2 points, from 45.3 % to 47.3 %.`"""
    pair = main_pair(comparison)
    target = things((comparison.target,))
    if pair is None:
        return f"{comparison.title}: nothing was trained both with and without unpaired data."
    found = [d for d in comparison.averaged if (d.a, d.b) == (arm_name(pair[0]), arm_name(pair[1]))]
    if not found:
        return f"{comparison.title}: no draw was trained both with and without unpaired data."
    return f"{comparison.dataset}: {_effect(comparison, pair, found[0], target)}."


def ground(comparison: Comparison) -> str:
    """What the headline rests on: the interval, the control, chance, how many labels and draws."""
    pair = main_pair(comparison)
    names = [arm_name(arm) for arm in pair or ()]
    found = [d for d in comparison.averaged if [d.a, d.b] == names]
    text = _ground(comparison, found[0]) if found else f"chance is {comparison.chance[0]:.1f} %"
    return f"{text[0].upper()}{text[1:]}."


def things(labels: tuple[str, ...]) -> str:
    """`texts`, `texts and sounds`: modalities as people call them."""
    names = [_THINGS.get(label.partition(":")[0].partition(".")[0], label) for label in labels]
    names = list(dict.fromkeys(names))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _effect(comparison: Comparison, pair: tuple[Arm, Arm], main: Difference, target: str) -> str:
    interval, what = main.interval, f"unpaired {things(comparison.auxiliaries)}"
    points = f"{signed(abs(interval.delta)).lstrip('+')} points"
    span = "" if main.left_out else _span(comparison, pair)
    if interval.low is None:
        way = "raised" if interval.delta > 0 else "lowered" if interval.delta < 0 else "left"
        change = f"{way} the accuracy on {target} {span or f'by {points}'}" if interval.delta else (
            f"left the accuracy on {target} as it was"
        )  # fmt: skip
        return f"{what} {change}; too few draws to rule out chance"
    if interval.verdict == HELPS:
        return f"{what} raised the accuracy on {target} by {points}{span and f', {span}'}"
    if interval.verdict == HURTS:
        return f"{what} lowered the accuracy on {target} by {points}{span and f', {span}'}"
    between = span.replace("from ", ": ").replace(" to ", " without them and ") + " with them" if span else ""
    if interval.verdict == NO_DIFFERENCE:
        return f"{what} made no difference to the accuracy on {target}{between}"
    assert interval.verdict == CANNOT_TELL
    return f"{interval.draws} draws cannot tell whether {what} raise the accuracy on {target}{between}"


def _span(comparison: Comparison, pair: tuple[Arm, Arm]) -> str:
    """`from 45.3 % to 47.3 %`, averaged over the shots that both have."""
    rows = [[comparison.row(arm, k) for k in comparison.shots] for arm in pair]
    both = [(a.mean, b.mean) for a, b in zip(*rows, strict=True) if a is not None and b is not None]
    if not both or comparison.metric.name != "accuracy":
        return ""
    with_data, without = (sum(side) / len(both) for side in zip(*both, strict=True))
    return f"from {without:.1f} % to {with_data:.1f} %"


def _ground(comparison: Comparison, main: Difference) -> str:
    said = []
    interval = main.interval
    if interval.low is not None and interval.high is not None:
        bounds = f"{signed(interval.low)} to {signed(interval.high)}"
        said.append(f"{signed(interval.delta)} points, 95 % interval {bounds}")
    by_control = {d.a: d for d in comparison.averaged if d.b == main.b}
    if control := by_control.get(f"{main.a}[permuted]"):
        said.append(f"{signed(control.interval.delta)} with their classes swapped")
    said.append(f"chance is {comparison.chance[0]:.1f} %")
    shots = [f"{'all' if k == 'all' else k}" for k in comparison.shots]
    many = shots[0] if len(shots) == 1 else f"{', '.join(shots[:-1])} and {shots[-1]}"
    one = "" if many == "1" else "s"
    said.append(f"{many} labelled sample{one} per class, {interval.draws} draw{'s' * (interval.draws != 1)}")
    return "; ".join(said)
