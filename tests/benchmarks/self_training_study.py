"""What rows without labels add to ridge regression (`self-training`), with its controls.

    OMP_NUM_THREADS=1 python tests/benchmarks/self_training_study.py --data NAME=FEATURES.npz,TEXTS.npz …
        [--draws 20] [--shots 1,2,4,8] [--open-test]

Data and draws are those of `prior_study.py`: k rows a class to train on, min(k, 4) to validate with, half of
the rest without labels, the other half scores; rows whose `splits` say test are left out unless --open-test
is given. Texts are not used. `always` keeps the guesses even where they validate worse, `self-training` does
not. Every line is mean accuracy in % over the draws and the difference to `ridge` with a 95 % interval
(Student's t over the draws), then how many draws kept the guesses, and CPU seconds a draw.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from prior_study import RIDGE, Data, Draw, drawn, line, model_of, opened

from uml_train import HeadModel, Normalizer
from uml_train.data.unlabelled import made_up
from uml_train.fullbatch.search import cross_validate, select, solve
from uml_train.fullbatch.self_training import self_trained
from uml_train.heads.models import Fitted

CONTROLS = (None, "permuted", "random")


def scored(data: Data, draw: Draw, found: dict[str, list[float]], kept: dict[str, int]) -> None:
    """One draw: every arm's accuracy in % on the rows that score, and whether its guesses were kept."""
    normalizer = Normalizer.fit("shrunk", data.x[draw.train])
    queries, answers = normalizer(data.x[draw.score]), data.y[draw.score]
    rows = data.x[draw.pool]

    def note(arm: str, fitted: Fitted) -> None:
        right = fitted.weights.logits(queries).argmax(1) == answers
        found.setdefault(arm, []).append(100.0 * float(right.float().mean()))

    model: HeadModel = model_of(data, draw, normalizer, data.x, None)
    heads = solve(model, RIDGE)
    cross_validate(model, RIDGE, heads)
    best = select(RIDGE, heads)
    note("ridge", heads[best])
    for control in CONTROLS:
        pool = normalizer(made_up(rows, draw.seed) if control == "random" else rows)
        guessed = self_trained(model, RIDGE[best], pool, control)
        fits = guessed.val_acc >= heads[best].val_acc
        name = "self-training" + (f"[{control}]" if control else "")
        note(name, guessed if fits else heads[best])
        kept[name] = kept.get(name, 0) + fits
        if control is None:
            note("always", guessed)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=FEATURES.npz,TEXTS.npz")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--shots", default="1,2,4,8")
    parser.add_argument("--open-test", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for given in options.data:
        name, _, files = given.partition("=")
        features, _, texts = files.partition(",")
        if not (Path(features).is_file() and Path(texts).is_file()):
            print(f"{name}: skipped, its files are not there")
            continue
        data = opened(Path(features), Path(texts), options.open_test)
        for k in map(int, options.shots.split(",")):
            found: dict[str, list[float]] = {}
            kept: dict[str, int] = {}
            began = time.process_time()
            for seed in range(1, options.draws + 1):
                scored(data, drawn(data, k, seed), found, kept)
            spent = (time.process_time() - began) / options.draws
            print(
                f"{name}, {data.classes} classes, k = {k}, {options.draws} draws, {spent:.2f} s", flush=True
            )
            for arm, values in found.items():
                print(
                    line(arm, values, found["ridge"]) + (f"  kept {kept[arm]}" if arm in kept else ""),
                    flush=True,
                )


if __name__ == "__main__":
    main()
