"""Judges the advice: predictions for targets that were left out, against what training measured.

    python tests/benchmarks/advice_judge.py --collect            # WORK/*.jsonl → advice_pairs.csv
    python tests/benchmarks/advice_judge.py                      # scores, from advice_pairs.csv alone

`docs/pictures/advice.py` draws it.

Predictions are linear in the estimators' numbers. For each target the weights are fitted on all other targets
(`target`), or on the other families of worlds (`world`); the spread of a prediction comes from leaving out,
one by one, the targets that were fitted on, so that coverage is judged on what the spread has not seen.
Scores are over k = 2, 4, 8; intervals resample targets.

- sign: balanced accuracy of the predicted sign where the measured difference lies outside the dead zone and
  further from 0 than its standard error.
- without permuted: the same with the permuted pairs taken out.
- rank: mean over k of Spearman's correlation among related pairs only (auxiliaries that share something).
- coverage: of the 90 % interval for the expected difference, allowing for the measured one's own error.
- missed by: root mean square of predicted − measured, points.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from advice_truth import WORK
from advice_worlds import all_targets
from numpy.typing import NDArray
from scipy.stats import spearmanr

from uml_evaluate.advice.combine import DEAD_ZONE, judged
from uml_evaluate.comparing.verdict import CANNOT_TELL, HELPS, HURTS, NO_DIFFERENCE

PAIRS = Path(__file__).with_name("advice_pairs.csv")
RELATED = ("full", "part")
GROUPS = {"target": "target", "world": "family"}
JUDGED = (2, 4, 8)
RIDGE = 0.1
CLIP = 6.0
REPLICATES = 200
Floats = NDArray[np.float64]

COLUMNS = (
    "target", "family", "classes", "auxiliary", "kind", "case", "shots", "measured", "error", "seeds",
    "texts", "z", "closed_form", "log_evidence", "fisher", "pilot_late", "pilot_best",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pairs:
    """The study's table, column by column."""

    columns: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def where(self, keep: np.ndarray) -> Pairs:
        return Pairs({name: values[keep] for name, values in self.columns.items()})


def load(path: Path = PAIRS) -> Pairs:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    texts = ("target", "family", "auxiliary", "kind", "case")
    columns = {
        name: np.array([row[name] if name in texts else float(row[name] or "nan") for row in rows])
        for name in COLUMNS
    }
    return Pairs(columns)


def features(pairs: Pairs, names: Sequence[str]) -> Floats:
    """(n, F) what predictions are linear in; an estimator that cannot speak counts as 0."""
    pilot = (np.clip(pairs["pilot_late"], -CLIP, CLIP) + np.clip(pairs["pilot_best"], -CLIP, CLIP)) / 2
    known = {
        "geometry": np.tanh(pairs["z"] / 5.0),
        "closed form": np.clip(pairs["closed_form"], -CLIP, CLIP),
        "evidence": np.clip(pairs["log_evidence"], -0.5, 0.5),
        "information": np.clip(pairs["fisher"], 0.0, 3.0),
        "pilot": pilot,
        "texts": np.log(pairs["texts"]),
    }
    return np.nan_to_num(np.stack([known[name] for name in names], axis=1))


def fit(x: Floats, y: Floats) -> tuple[float, Floats]:
    """Intercept and weights of a ridge on standardised features."""
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-9)
    z = (x - mean) / scale
    weights = np.linalg.solve(z.T @ z + RIDGE * len(z) * np.eye(z.shape[1]), z.T @ (y - y.mean())) / scale
    return float(y.mean() - mean @ weights), weights


def left_out(x: Floats, y: Floats, groups: np.ndarray) -> Floats:
    """Predictions (n,) for each group by a fit on the others."""
    found = np.empty(len(y))
    for group in np.unique(groups):
        there = groups == group
        intercept, weights = fit(x[~there], y[~there])
        found[there] = intercept + x[there] @ weights
    return found


def predictions(pairs: Pairs, names: Sequence[str], by: str) -> tuple[Floats, Floats]:
    """Predictions and spreads (n,) for left-out groups (`target` or `family`); one fit for each case."""
    x, y, groups = features(pairs, names), pairs["measured"], pairs[by]
    predicted, spread = np.empty(len(y)), np.empty(len(y))
    for case in np.unique(pairs["case"]):
        for group in np.unique(groups):
            here = (pairs["case"] == case) & (groups == group)
            rest = (pairs["case"] == case) & (groups != group)
            intercept, weights = fit(x[rest], y[rest])
            predicted[here] = intercept + x[here] @ weights
            inner = left_out(x[rest], y[rest], pairs["target"][rest])
            spread[here] = spread_of(inner - y[rest], pairs["error"][rest])
    return predicted, spread


def sign(pairs: Pairs, predicted: Floats) -> float:
    y = pairs["measured"]
    clear = (np.abs(y) > DEAD_ZONE) & (np.abs(y) > pairs["error"])
    positive = y > 0
    if not (clear & positive).any() or not (clear & ~positive).any():
        return float("nan")
    guess = np.sign(predicted)
    return float(((guess > 0)[clear & positive].mean() + (guess < 0)[clear & ~positive].mean()) / 2)


def rank(pairs: Pairs, predicted: Floats) -> float:
    related = np.isin(pairs["kind"], RELATED)
    found = []
    for k in np.unique(pairs["shots"]):
        here = related & (pairs["shots"] == k)
        if here.sum() > 3 and np.ptp(predicted[here]) > 0:
            found.append(spearmanr(predicted[here], pairs["measured"][here])[0])
    return float(np.mean(found)) if found else 0.0


def interval(pairs: Pairs, predicted: Floats, score: Callable[[Pairs, Floats], float]) -> tuple[float, float]:
    """95 % interval of a score from a bootstrap over targets."""
    rng = np.random.default_rng(0)
    used = ("target", "kind", "shots", "measured", "error")
    pairs = Pairs({name: pairs[name] for name in used})
    names = np.unique(pairs["target"])
    rows = {name: np.flatnonzero(pairs["target"] == name) for name in names}
    values = []
    for _ in range(REPLICATES):
        chosen = np.concatenate([rows[name] for name in rng.choice(names, len(names))])
        values.append(score(pairs.where(chosen), predicted[chosen]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


CANDIDATES: dict[str, tuple[str, ...]] = {
    "number of texts": ("texts",),
    "(a) geometry": ("geometry",),
    "(b) closed form": ("closed form",),
    "(b) its evidence": ("evidence",),
    "(c) Fisher information": ("information",),
    "(d) pilot": ("pilot",),
    "(a)+(d)": ("geometry", "pilot"),
    "(a)+(b)": ("geometry", "closed form"),
    "(b)+(d)": ("closed form", "pilot"),
    "(a)+(b)+(d)": ("geometry", "closed form", "pilot"),
    "(a)+(b)+(c)+(d)": ("geometry", "closed form", "information", "pilot"),
}
PRODUCT = {"rich": ("geometry", "pilot"), "poor": ("geometry",)}


def collect(work: Path, shared: Path) -> None:
    """Join measurements and estimates into `advice_pairs.csv`."""
    measured: dict[tuple[str, ...], dict[int, float]] = {}
    for path in sorted(work.glob("truth-*.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            target, auxiliary, shots, seed = record["key"]
            measured.setdefault((target, auxiliary, shots), {})[seed] = record["uml"] - record["deep"]
    about = {
        (t.name, a.name): (t.family, t.classes, a.kind)
        for t in all_targets(work, shared)
        for a in t.auxiliaries
    }
    lines = []
    for path in sorted(work.glob("estimates-*.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            target, auxiliary, shots, case, _ = record["key"]
            family, classes, kind = about[target, auxiliary]
            deltas = np.array(list(measured[target, auxiliary, shots].values()))
            mean = {
                name: round(float(np.mean(record[name])), 4) if record[name] else ""
                for name in ("b", "d", "d_best")
            }
            lines.append(
                (
                    target, family, classes, auxiliary, kind, case, shots, round(float(deltas.mean()), 4),
                    round(float(deltas.std(ddof=1) / np.sqrt(len(deltas))), 4), len(deltas), record["rows"],
                    "" if record["a_z"] is None else round(record["a_z"], 4), mean["b"],
                    round(record["b_evidence"], 5), "" if record["c"] is None else round(record["c"], 4),
                    mean["d"], mean["d_best"],
                )
            )  # fmt: skip
    with PAIRS.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(sorted(lines, key=lambda row: (row[5], row[6], row[0], row[3])))
    print(f"{len(lines)} rows in {PAIRS}")


def constants(pairs: Pairs) -> dict[str, dict[str, float]]:
    """What the product holds: for each case the intercept, the weights and the spread, fitted on all targets.

    The spread is the larger of what left-out targets and left-out worlds show.
    """
    found = {}
    for case, names in PRODUCT.items():
        here = pairs.where((pairs["case"] == case) & np.isin(pairs["shots"], JUDGED))
        x, y = features(here, names), here["measured"]
        intercept, weights = fit(x, y)
        spreads = [spread_of(left_out(x, y, here[by]) - y, here["error"]) for by in GROUPS.values()]
        found[case] = {
            "intercept": round(intercept, 3),
            **{name: round(float(w), 3) for name, w in zip(names, weights, strict=True)},
            "spread": round(max(spreads), 2),
        }
    return found


def spread_of(missed: Floats, error: Floats) -> float:
    """By how much predictions miss the expected difference: what they miss the measured one by, less what the
    measured one misses the expected one by."""
    return float(np.sqrt(max(np.mean(missed**2) - np.mean(error**2), 0.01)))


def covered(pairs: Pairs, predicted: Floats, spread: Floats) -> float:
    """Share of measured differences inside the 90 % interval, allowing for their own errors."""
    width = 1.645 * np.sqrt(spread**2 + pairs["error"] ** 2)
    return float((np.abs(pairs["measured"] - predicted) <= width).mean())


def report(pairs: Pairs) -> None:
    """Scores of every estimator and of what the advice says, as Markdown tables."""
    names = set(zip(pairs["target"], pairs["auxiliary"], strict=True))
    print(f"{len(np.unique(pairs['target']))} targets, {len(names)} pairs")
    for case in ("rich", "poor"):
        here = pairs.where((pairs["case"] == case) & np.isin(pairs["shots"], JUDGED))
        clear = (np.abs(here["measured"]) > DEAD_ZONE) & (np.abs(here["measured"]) > here["error"])
        up = int((clear & (here["measured"] > 0)).sum())
        print(f"\n{case}: {len(clear)} cells, {up} clear gains, {int(clear.sum()) - up} clear losses;")
        print(f"standard deviation {here['measured'].std():.2f}, mean error {here['error'].mean():.2f}\n")
        plain = here["kind"] != "permuted"
        print(
            "| estimator | left out | sign | without permuted | rank, related pairs | coverage | missed by |"
        )
        print("|---|---|---|---|---|---|---|")
        for (name, used), (label, by) in product(CANDIDATES.items(), GROUPS.items()):
            predicted, spread = predictions(here, used, by)
            cells = [
                name,
                label,
                _with_interval(here, predicted, sign, case),
                f"{sign(here.where(plain), predicted[plain]):.2f}",
                _with_interval(here, predicted, rank, case),
                f"{covered(here, predicted, spread):.0%}",
                f"{np.sqrt(np.mean((predicted - here['measured']) ** 2)):.2f}",
            ]
            print(f"| {' | '.join(cells)} |")
        verdicts(here, PRODUCT[case])


def _with_interval(
    pairs: Pairs, predicted: Floats, score: Callable[[Pairs, Floats], float], case: str
) -> str:
    if case == "poor":
        return f"{score(pairs, predicted):.2f}"
    low, high = interval(pairs, predicted, score)
    return f"{score(pairs, predicted):.2f} [{low:.2f}, {high:.2f}]"


def verdicts(here: Pairs, names: Sequence[str]) -> None:
    """What was measured where the advice said what, on left-out targets and worlds."""
    print("\n| said | left out | cells | measured > 0 | above 1.5 | below −1.5 | mean |")
    print("|---|---|---|---|---|---|---|")
    for label, by in GROUPS.items():
        predicted, spread = predictions(here, names, by)
        said = np.array([judged(p, s).verdict for p, s in zip(predicted, spread, strict=True)])
        for verdict in (HELPS, NO_DIFFERENCE, HURTS, CANNOT_TELL):
            y = here["measured"][said == verdict]
            if len(y):
                shares = [(y > 0).mean(), (y > DEAD_ZONE).mean(), (y < -DEAD_ZONE).mean()]
                cells = [verdict, label, str(len(y)), *(f"{s:.0%}" for s in shares), f"{y.mean():+.1f}"]
                print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--collect", action="store_true")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[3] / "shared")
    arguments = parser.parse_args()
    if arguments.collect:
        collect(arguments.work, arguments.shared)
    pairs = load()
    print(f"constants: {json.dumps(constants(pairs), indent=1)}")
    report(pairs)


if __name__ == "__main__":
    main()
