"""One sentence on what the unpaired data added, made from the numbers whichever way they fall."""

from __future__ import annotations

from uml_evaluate.comparing.comparison import Comparison
from uml_evaluate.comparing.rows import ORDER, PROBES, TEXTBOOK, Difference
from uml_evaluate.comparing.statistics import Interval
from uml_evaluate.comparing.verdict import CANNOT_TELL, HELPS, HURTS, MIN_DRAWS, NO_DIFFERENCE, tells

_FEW_GROUPS = 10
_CONTROLS = {
    "permuted": "with its classes permuted it",
    "random": "random class vectors in its place",
}
_NOISE = {"random": "noise in its place"}


def sentence(comparison: Comparison) -> str:
    """What the auxiliaries added, how much of the gap to the plain linear layer is the deeper head, and what
    the controls did; over all shots of the comparison. Without a method that trains on auxiliaries it says
    that nothing was compared."""
    found = {(d.a, d.b): d for d in comparison.averaged}
    data = found.get(("uml", comparison.baseline))
    on_top = found.get(("uml-init", "init-only"))
    prior = found.get(("prior", "ridge"))
    main = data or on_top or prior
    if main is None:
        return (
            f"{comparison.title}: no method here is trained both with and without unpaired data, "
            "so nothing can be said of what such data adds."
        ) + below_textbook(comparison)
    after = (
        f"; on top of an initialisation from its class means {_points(on_top.interval)}"
        if data and on_top
        else ""
    )
    after = _ends(comparison, main) + after
    effect = f"{_setting(comparison)}, unpaired {' and '.join(comparison.auxiliaries)} {_effect(main, after)}"
    said = [effect, *_opposite(comparison, main, on_top), *_head_share(found), *_controls(comparison, found)]
    if prior is not None and main is not prior:
        said.append(f"as a prior on the classes of ridge regression it adds {_points(prior.interval)}")
    return "; ".join(said) + "." + below_textbook(comparison) + _caveats(comparison)


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
            said.append(f"{method} {_points(average[0].interval)}")
        elif found:
            where = (
                f"{_points(d.interval)} {'with all labels' if d.shots == 'all' else f'at k = {d.shots}'}"
                for d in found
            )
            said.append(f"{method} {', '.join(where)}")
    if not said:
        return ""
    what = "the best textbook classifier (ridge or logistic regression on the same rows)"
    return f" Below {what}: {'; '.join(said)}."


def _setting(comparison: Comparison) -> str:
    names = [str(k) for k in comparison.shots]
    if len(names) == 1:
        many = "all" if names == ["all"] else names[0]
        plural = "" if names == ["1"] else "s"
        what = f"With {many} labelled {comparison.target} sample{plural} per class"
    else:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        what = f"Averaged over {listed} labelled {comparison.target} samples per class"
    return f"{comparison.dataset}: {what[0].lower()}{what[1:]}"


def _ends(comparison: Comparison, main: Difference) -> str:
    """What the average hides: the difference at the fewest and at the most shots."""
    if len(comparison.shots) < 2:
        return ""
    by_shots = {d.shots: d for d in comparison.differences if (d.a, d.b) == (main.a, main.b)}
    said = [
        f"{signed(by_shots[k].interval.delta)} at {k if k == 'all' else f'k = {k}'}"
        for k in (comparison.shots[0], comparison.shots[-1])
        if k in by_shots
    ]
    return f"; {', '.join(said)}"


def _effect(difference: Difference, after: str) -> str:
    interval, against = difference.interval, f"{difference.a} − {difference.b}"
    if interval.low is None:
        seeds = f"{interval.draws} seed{'s' if interval.draws != 1 else ''}"
        return (
            f"changed accuracy by {signed(interval.delta)} points ({against}{after}), "
            f"but {seeds} cannot show whether that is more than chance (it takes {MIN_DRAWS})"
        )
    assert interval.high is not None
    bounds = f"{signed(interval.low)} to {signed(interval.high)}"
    numbers = f"{against}, 95 % interval {bounds}, {interval.draws} seeds{after}"
    points = f"{signed(interval.delta)} points"
    if interval.verdict in (HELPS, HURTS):
        return f"{interval.verdict}: {points} over the same network without it ({numbers})"
    if interval.verdict == NO_DIFFERENCE:
        return f"makes {NO_DIFFERENCE}: {points} ({numbers})"
    return f"may help or not, these seeds {CANNOT_TELL}: {points} ({numbers}); {tells(interval)}"


def _opposite(comparison: Comparison, main: Difference, on_top: Difference | None) -> list[str]:
    """Numbers of shots at which the data moved accuracy, beyond chance, against the average's direction."""
    said = []
    for average in [main] if on_top in (None, main) else [main, on_top]:
        for d in comparison.differences:
            same = (d.a, d.b) == (average.a, average.b) and d.shots is not None
            if same and d.interval.excludes_zero and d.interval.delta * average.interval.delta < 0:
                where = "with all labels" if d.shots == "all" else f"at k = {d.shots}"
                said.append(f"but {where} it {d.interval.verdict}: {_points(d.interval)} ({d.a} − {d.b})")
    return said


def _caveats(comparison: Comparison) -> str:
    """What the interval does not cover."""
    said = ""
    if comparison.shots == ["all"]:
        said += " All seeds train on the same rows: they vary initialisation and batch order, not the draw."
    groups = comparison.test_groups
    if groups is not None and groups < _FEW_GROUPS:
        said += (
            f" The test rows come from {groups} group{'s' * (groups != 1)} only (speakers, patients …): the "
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
        return [
            f"of the {signed(whole)} points between uml and the plain linear layer, {signed(head)} are the "
            "deeper head, with no unpaired data at all"
        ]
    return [
        f"against the plain linear layer uml differs by {signed(whole)} points, and the deeper head alone, "
        f"with no unpaired data, by {signed(head)}"
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
        helps_too = interval.verdict == HELPS
        hidden = ""
        if interval.low is None:
            verdict = "moved accuracy by"
        elif interval.excludes_zero:
            verdict = f"{HELPS} too:" if helps_too else f"{HURTS}:"
        else:
            hidden = _starred(comparison, against_none)
            small = interval.verdict == NO_DIFFERENCE
            verdict = f"makes {NO_DIFFERENCE}" if small else f"may help or not, the seeds {CANNOT_TELL}"
            verdict += f"{' on average' if hidden else ''}:"
        text = f"{what} {verdict} {_points(interval)}{hidden}"
        data = found.get((method, f"{method}[{control}]"))
        if data is not None and helps_too:
            text += f", so that what it says of the classes is worth {_points(data.interval)}"
        said.append(text)
    return said


def _starred(comparison: Comparison, average: Difference) -> str:
    """The numbers of shots at which a difference is beyond chance although its average is not."""
    if len(comparison.shots) < 2:
        return ""
    said = [
        f"{d.shots if d.shots == 'all' else f'k = {d.shots}'}: {_points(d.interval)}"
        for d in comparison.differences
        if (d.a, d.b) == (average.a, average.b) and d.shots is not None and d.interval.excludes_zero
    ]
    return f" (but {', '.join(said)})" if said else ""


def _points(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return signed(interval.delta)
    return f"{signed(interval.delta)} [{signed(interval.low)}, {signed(interval.high)}]"


def signed(points: float, digits: int = 1) -> str:
    """`+5.2`, `−0.3`, `+0.04`, `0.0`: percentage points with a true minus sign."""
    text = f"{points:+.{digits}f}"
    if float(text) == 0.0:  # an end that is not 0 must not look like it
        text = f"{points:+.{digits + 1}f}"
    return f"{0:.{digits}f}" if float(text) == 0.0 else text.replace("-", "−")
