"""Twenty strengths × five draws of logistic regression: the batched L-BFGS against scikit-learn.

Few-shot draws of made-up features with a mean far from 0 and axes of different lengths; one thread on every
side; rivals interleaved draw by draw, in CPU seconds, so that other work on the machine counts little.

    OMP_NUM_THREADS=1 python tests/benchmarks/logreg.py [--classes 37] [--width 384] [--shots 4] [--rounds 3]

scikit-learn runs on features that are centred for it: each strength from nothing at its default tolerance
(1e-4) and at 1e-6, and along the path, each strength from the one before (`warm_start`), at 1e-6; all of it
in single precision, as the features are, and in double, as the probe `logreg-sklearn` runs it (at 1e-6).
"Apart" is the largest difference in test accuracy to a reference that is solved to 1e-7 in double precision,
over the problems of the first draw.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from uml_evaluate.probes.logreg import penalties_of
from uml_train.fullbatch.softmax import fit_softmax

DRAWS = 5
TEST = 100  # rows a class


def rows(seed: int, classes: int, width: int, n: int) -> tuple[Tensor, Tensor]:
    world = np.random.default_rng(0)
    centres, lengths = world.standard_normal((classes, width)), world.gamma(1.0, 1.0, width)
    mean = 5 * world.standard_normal(width)
    labels = np.repeat(np.arange(classes), n)
    noise = np.random.default_rng(seed).standard_normal((len(labels), width))
    features = mean + lengths * (centres[labels] + 3.0 * noise)
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels)


def by_sklearn(
    x: Tensor, y: Tensor, penalties: Tensor, tolerance: float, *, warm: bool = False, double: bool = False
) -> list[LogisticRegression]:
    features = x.double().numpy() if double else x.numpy()
    model = LogisticRegression(max_iter=5_000, tol=tolerance, warm_start=warm)
    found = []
    for penalty in penalties.tolist():
        if not warm:
            model = LogisticRegression(max_iter=5_000, tol=tolerance)
        model.C = 1.0 / penalty
        model.fit(features, y.numpy())
        found.append((model.coef_.copy(), model.intercept_.copy()))
    return found


def accuracies(found: list, x: Tensor, y: Tensor) -> np.ndarray:
    return np.array([((x.numpy() @ w.T + b).argmax(1) == y.numpy()).mean() for w, b in found])


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in (("classes", 37), ("width", 384), ("shots", 4), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    sets = [rows(seed, options.classes, options.width, options.shots) for seed in range(1, DRAWS + 1)]
    means = [x.mean(0) for x, _ in sets]
    penalties = torch.stack([penalties_of(x) for x, _ in sets])
    test = rows(99, options.classes, options.width, TEST)
    x, y = (torch.stack(parts) for parts in zip(*sets, strict=True))
    rivals: dict[str, Callable[[int], list]] = {
        name: lambda g, t=tolerance, w=warm, d=double: by_sklearn(
            sets[g][0] - means[g], sets[g][1], penalties[g], t, warm=w, double=d
        )
        for name, tolerance, warm, double in (
            ("scikit-learn, default tolerance", 1e-4, False, False),
            ("scikit-learn, tolerance 1e-6", 1e-6, False, False),
            ("scikit-learn, 1e-6, warm start", 1e-6, True, False),
            ("scikit-learn, double, default", 1e-4, False, True),
            ("scikit-learn, double, 1e-6", 1e-6, False, True),
            ("scikit-learn, double, 1e-6, warm", 1e-6, True, True),
        )
    }  # fmt: skip
    fit_softmax(x[:1, :, :8], y[:1], penalties[:1, :2], options.classes)  # torch's first use
    seconds: dict[str, list[float]] = {name: [] for name in ("batched", *rivals)}
    for _ in range(options.rounds):
        began = time.process_time()
        batched = fit_softmax(x, y, penalties, options.classes)
        seconds["batched"].append(time.process_time() - began)
        found: dict[str, list[list]] = {name: [] for name in rivals}
        spent = dict.fromkeys(rivals, 0.0)
        for g in range(DRAWS):
            for name, fit in rivals.items():
                began = time.process_time()
                found[name].append(fit(g))
                spent[name] += time.process_time() - began
        for name, value in spent.items():
            seconds[name].append(value)
    apart: dict[str, float] = dict.fromkeys(seconds, 0.0)
    for g in range(1):
        shifted = test[0] - means[g]
        exact = accuracies(
            by_sklearn(sets[g][0] - means[g], sets[g][1], penalties[g], 1e-7, double=True), shifted, test[1]
        )
        ours = [(batched.weight[g, r].numpy(), batched.bias[g, r].numpy()) for r in range(len(penalties[g]))]
        sides = {"batched": accuracies(ours, test[0] - batched.means[g].numpy(), test[1])}
        sides |= {name: accuracies(found[name][g], shifted, test[1]) for name in rivals}
        for name, values in sides.items():
            apart[name] = max(apart[name], float(np.abs(values - exact).max()))
    size = f"{options.classes} classes, {options.shots} shots, {options.width} features"
    print(f"{size}, {len(penalties[0])} strengths × {DRAWS} draws, load {os.getloadavg()[0]:.1f}")
    ours = statistics.median(seconds["batched"])
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{name:34} {middle:8.2f} s  {middle / ours:6.1f}×  apart {100 * apart[name]:.2f} points")


if __name__ == "__main__":
    main()
