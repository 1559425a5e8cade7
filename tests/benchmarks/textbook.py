"""Every method against the best textbook classifier, on the draws of `uml train`: accuracy and time.

*Textbook* is {ridge, logistic regression} × strengths × {subtract the draw's mean and scale to unit length,
standardise}, by scikit-learn on features in double precision, the best on the same validation rows (ties: the
likelier at its best temperature, then the stronger penalty). Both sides train on k rows a class, choose on
min(k, 4), and see no test row before. scikit-learn's `LogisticRegressionCV` is timed on the same training and
validation rows (one split, its ten strengths, standardised features).

    python tests/benchmarks/textbook.py FOLDER/grocery_lite2.npz FOLDER/grocery_text_minilm.npz --closed-test
    python tests/benchmarks/textbook.py TARGET.npz [TEXT.npz] [--shots 1,2,4,8,16] [--seeds 10]
    python tests/benchmarks/textbook.py SOUNDS.npz --normalize validated-lengths

The target's file holds `features` (n, D), `labels` and `splits` (train, val, test); that of the texts holds
`features`, `labels` (numbers) and `classes`. With --closed-test its test rows are not looked at: heads are
scored on those training rows that are in nobody's draw. Data that is absent is skipped. A cell's line has the
mean over seeds and, for each method, its difference to the textbook with a 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Ridge
from sklearn.model_selection import PredefinedSplit
from torch import Tensor

from uml_cache import InputError
from uml_manifests import few_shot
from uml_train import Candidate, HeadModel, Normalizer, Samples, load_grid
from uml_train.fullbatch.scaling import LabelledParts, validated_normalization
from uml_train.fullbatch.search import select, solve, temperature
from uml_train.heads.weights import class_mean_rows

METHODS = ("unimodal", "unimodal-deep", "init-only", "uml", "uml-init")
RIDGE = np.logspace(-2, 2, 7)  # shares of the features' mean squared length
LOGISTIC = np.logspace(-1, 4, 8)  # C at features of unit length
POINTS = load_grid("fair").points
LINEAR_POINTS = load_grid("fair").points_for(auxiliary_loss=False)


@dataclass(frozen=True, eq=False)
class Data:
    name: str
    x: Tensor
    y: Tensor
    splits: np.ndarray
    classes: int
    text: Tensor | None
    words: Tensor | None
    closed: bool
    choice: str = "validated"  # --normalize of the runs that it stands for


def read(target: Path, text: Path | None, closed: bool) -> Data:
    arrays = np.load(target)
    labels = arrays["labels"]
    others = None if text is None else np.load(text)
    names = sorted(set(labels.tolist())) if others is None else others["classes"].tolist()
    place = {name: i for i, name in enumerate(names)}
    codes = {"train": 0, "val": 1, "test": 2}
    return Data(
        name=f"{target.stem}" + (f" ← {text.stem}" if text else ""),
        x=torch.from_numpy(arrays["features"].astype(np.float32)),
        y=torch.tensor([place[name] for name in labels.tolist()]),
        splits=np.array([codes[str(part)] for part in arrays["splits"]], dtype=np.uint8),
        classes=len(names),
        text=None if others is None else torch.from_numpy(others["features"].astype(np.float32)),
        words=None if others is None else torch.from_numpy(others["labels"].astype(np.int64)),
        closed=closed,
    )


def draw(data: Data, shots: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and test rows. Raises `InputError` where a class has too few."""
    drawn = few_shot(data.y.numpy(), data.splits, shots=shots, seed=seed)
    train, val = np.asarray(drawn.train_rows), np.asarray(drawn.val_rows)
    if data.closed:
        return train, val, np.setdiff1d(np.flatnonzero(data.splits == 0), train)
    return train, val, np.flatnonzero(data.splits == 2)


def textbook(data: Data, train: np.ndarray, val: np.ndarray, test: np.ndarray) -> float:
    """Test accuracy of the best on validation."""
    best, score = (-1.0, -np.inf), 0.0
    y, yv, yt = (data.y[rows].numpy() for rows in (train, val, test))
    for kind in ("center-l2", "standard"):
        normalize = Normalizer.fit(kind, data.x[train])
        x, xv, xt = (normalize(data.x[rows]).double().numpy() for rows in (train, val, test))
        spread = np.square(x - x.mean(0)).sum(1).mean()
        rivals: list[Ridge | LogisticRegression] = [Ridge(alpha=q * spread) for q in RIDGE]
        rivals += [LogisticRegression(C=c / spread, max_iter=300, tol=1e-4) for c in LOGISTIC]
        for rival in rivals:
            linear = isinstance(rival, Ridge)
            rival.fit(x, np.eye(data.classes)[y] if linear else y)
            guess = rival.predict if linear else rival.decision_function
            logits = torch.from_numpy(guess(xv))
            labels = torch.from_numpy(yv)
            factor = temperature(logits, labels)
            loss = float(torch.nn.functional.cross_entropy(factor * logits, labels))
            found = (float((logits.argmax(1) == labels).double().mean()), -loss)
            if found > best:
                best, score = found, 100.0 * float((guess(xt).argmax(1) == yt).mean())
    return score


def cross_validated(data: Data, train: np.ndarray, val: np.ndarray) -> None:
    """scikit-learn's own search on the same rows, for its time."""
    normalize = Normalizer.fit("standard", data.x[train])
    rows = np.concatenate([train, val])
    split = PredefinedSplit(np.repeat([-1, 0], [len(train), len(val)]))
    LogisticRegressionCV(cv=split, max_iter=300).fit(normalize(data.x[rows]).double().numpy(), data.y[rows])


def ours(data: Data, method: str, rows: tuple[np.ndarray, ...], seed: int) -> float:
    """Test accuracy of a method's head, as `uml train` makes it."""
    train, val, test = rows
    parts = LabelledParts(data.x[train], data.y[train], data.x[val], data.y[val], data.classes)
    kind = validated_normalization(parts, LINEAR_POINTS, choice=data.choice)
    normalize = Normalizer.fit(kind, data.x[train])
    x, xv, xt = (normalize(data.x[r]) for r in rows)
    text = None if data.text is None else Normalizer.fit("shrunk", data.text)(data.text)
    auxiliaries: tuple[Samples, ...] = ()
    head = None
    if text is not None and data.words is not None:
        if method in ("uml", "uml-init"):
            auxiliaries = (Samples(name="text", features=text, labels=data.words, projected=False),)
        if method in ("init-only", "uml-init"):
            head, _ = class_mean_rows(text, data.words, data.classes, seed)
    deep = method != "unimodal"
    width = data.x.shape[1] if text is None or not deep else text.shape[1]
    model = HeadModel(
        target=Samples(name="image", features=x, labels=data.y[train], projected=deep),
        auxiliaries=auxiliaries,
        validation=(xv, data.y[val]),
        classes=data.classes,
        width=width,
        seed=seed,
        candidate=Candidate(lr=0.0, weight_decay=0.0, batch_size=1),
        head=head,
    )
    fitted = solve(model, POINTS)
    chosen = fitted[select(POINTS, fitted)]
    return 100.0 * float((chosen.weights.logits(xt).argmax(1) == data.y[test]).float().mean())


def interval(values: np.ndarray) -> str:
    if len(values) < 3:
        return f"{values.mean():+.1f}"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.1f} [{values.mean() - half:+.1f}, {values.mean() + half:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", type=Path)
    parser.add_argument("text", type=Path, nargs="?")
    parser.add_argument("--shots", default="1,2,4,8,16")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--closed-test", action="store_true")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--normalize", default="validated", help="validated-lengths for log-mel")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for path in (options.target, options.text):
        if path is not None and not path.is_file():
            print(f"{path} is not there: skipped")
            return
    data = replace(read(options.target, options.text, options.closed_test), choice=options.normalize)
    methods = [m for m in options.methods.split(",") if data.text is not None or m.startswith("unimodal")]
    print(f"{data.name}: {data.classes} classes, {options.seeds} seeds, load {os.getloadavg()[0]:.1f}")
    print(f"{len(POINTS)} candidates a method; {2 * (len(RIDGE) + len(LOGISTIC))} for the textbook")
    print("| k | textbook | " + " | ".join(f"{m}, − textbook" for m in methods) + " | s a cell |")
    print("|---" * (len(methods) + 3) + "|")
    for shots in map(int, options.shots.split(",")):
        found: dict[str, list[float]] = {}
        seconds: dict[str, float] = {}
        for seed in range(1, options.seeds + 1):
            try:
                rows = draw(data, shots, seed)
            except InputError as error:
                print(f"| {shots} | left out: {error} |")
                break
            for name in ("textbook", "LogisticRegressionCV", *methods):
                began = time.process_time()
                if name == "LogisticRegressionCV":
                    cross_validated(data, *rows[:2])
                else:
                    score = textbook(data, *rows) if name == "textbook" else ours(data, name, rows, seed)
                    found.setdefault(name, []).append(score)
                seconds[name] = seconds.get(name, 0.0) + time.process_time() - began
        else:
            scores = {name: np.array(values) for name, values in found.items()}
            cells = [f"{scores[m].mean():.1f}, {interval(scores[m] - scores['textbook'])}" for m in methods]
            spent = ", ".join(f"{name} {value / options.seeds:.2f}" for name, value in seconds.items())
            print(
                f"| {shots} | {scores['textbook'].mean():.1f} | {' | '.join(cells)} | {spent} |", flush=True
            )


if __name__ == "__main__":
    main()
