"""What the data really added, for every pair of the advice study: `uml` − `unimodal-deep`, by training.

    OMP_NUM_THREADS=1 python tests/benchmarks/advice_truth.py [--seeds 5] [--minutes 5]

Both methods get the demo's grid, the same draw (k rows per class from the pool, min(k, 4) to validate), start
and batch order, and the same search; validation selects; the test rows score the selected model. Results are
appended to `WORK/truth.jsonl`, one line per pair, k and seed; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from advice_worlds import Auxiliary, Target, all_targets

from uml_manifests import few_shot
from uml_train import HeadBank, HeadModel, Samples, load_grid

SHOTS = (1, 2, 4, 8)
FULL_SEEDS = 3  # further ones leave k = 1 out, where the first three showed nothing but noise
WORK = Path("/tmp/uml-advice-study")


def _score(
    target: Target, auxiliary: Auxiliary | None, width: int, shots: int, seed: int
) -> tuple[float, float]:
    """Test accuracy of the selected model, and its seconds."""
    rows, val = draw(target, shots, seed)
    grid = load_grid("demo")

    def samples(name: str, x: np.ndarray, y: np.ndarray, projected: bool) -> Samples:
        return Samples(
            name=name, features=torch.from_numpy(x), labels=torch.from_numpy(y), projected=projected
        )

    main = samples("target", target.pool[0][rows], target.pool[1][rows], True)
    others = () if auxiliary is None else (samples("aux", auxiliary.features, auxiliary.labels, False),)
    candidates = grid.candidates_for(auxiliary_loss=auxiliary is not None)
    models = [
        HeadModel(
            target=main,
            auxiliaries=others,
            validation=(torch.from_numpy(target.val[0][val]), torch.from_numpy(target.val[1][val])),
            classes=target.classes,
            width=width,
            seed=seed,
            candidate=candidate,
        )
        for candidate in candidates
    ]
    began = time.perf_counter()
    fitted = HeadBank(models, grid.schedule).fit()
    best = min(range(len(fitted)), key=lambda i: (-fitted[i].val_acc, fitted[i].best_step, i))
    logits = fitted[best].weights.logits(torch.from_numpy(target.test[0]))
    accuracy = float((logits.argmax(1).numpy() == target.test[1]).mean())
    return 100 * accuracy, time.perf_counter() - began


def draw(target: Target, shots: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool (k per class) and of the validation part."""
    labels = np.concatenate([target.pool[1], target.val[1]])
    splits = np.repeat(np.array([0, 1], np.uint8), [len(target.pool[1]), len(target.val[1])])
    drawn = few_shot(labels, splits, shots=shots, seed=seed)
    return drawn.train_rows, drawn.val_rows - len(target.pool[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=5.0, help="stop after so long, to be resumed")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[3] / "shared")
    parser.add_argument("--part", default="0/1", help="i/n: every n-th target from the i-th on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    deadline = time.monotonic() + 60 * arguments.minutes
    part, parts = map(int, arguments.part.split("/"))
    path = arguments.work / f"truth-{part}-{parts}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    done = {tuple(json.loads(line)["key"]) for line in lines}
    targets = all_targets(arguments.work, arguments.shared)[part::parts]
    with path.open("a") as file:
        for seed in range(1, arguments.seeds + 1):
            for shots in SHOTS if seed <= FULL_SEEDS else SHOTS[1:]:
                for target in targets:
                    deep: dict[int, float] = {}
                    for auxiliary in target.auxiliaries:
                        key = (target.name, auxiliary.name, shots, seed)
                        if key in done:
                            continue
                        if time.monotonic() > deadline:
                            return
                        width = auxiliary.features.shape[1]
                        if width not in deep:
                            deep[width] = _score(target, None, width, shots, seed)[0]
                        score, seconds = _score(target, auxiliary, width, shots, seed)
                        record = {"key": key, "uml": score, "deep": deep[width], "seconds": round(seconds, 3)}
                        file.write(json.dumps(record) + "\n")
                        file.flush()


if __name__ == "__main__":
    main()
