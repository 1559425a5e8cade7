"""What unpaired texts add to ridge regression as a prior on the classes, and what other routes add.

    OMP_NUM_THREADS=1 python tests/benchmarks/prior_study.py --data NAME=PICTURES.npz,TEXTS.npz … [--draws 20]
        [--shots 1,2,4,8] [--routes] [--open-test]

Both files hold `features` and `labels`; the texts' labels are names, or indices into their `classes`. Rows
whose `splits` say test are left out unless --open-test is given, so that a method can be developed on the
others. A draw takes k rows a class to train on and min(k, 4) to validate with; half of the rest is the
unlabelled pool, the other half scores. Files that are not there are skipped.

Every line is one method: mean accuracy in % over the draws, and its difference to `ridge` with a 95 %
interval (Student's t over the draws, which share their scoring rows to a part). Both choose one of 4
strengths without a prior, `prior` then one of 4 shares of the auxiliary, by cross-validation on training and
validation rows (up to 8 rows a class, else on the validation rows), so the label budget is the same.
"+ refit" trains what is chosen on training and validation rows together.

--routes adds, all with ridge regression as the last step and chosen in the same way: kernels of other class
vectors, the prior mean that a map from texts to class means predicts for a class it has not seen, features
raised to a power, what the pool says (its mean and deviations; labels spread over it), and the shared heads.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from uml_train import Candidate, HeadModel, Normalizer, Point, Samples, load_grid
from uml_train.data.controls import permuted_labels, random_class_vectors
from uml_train.fullbatch.class_prior import class_kernel, folds
from uml_train.fullbatch.search import cross_validate, select, solve
from uml_train.heads.weights import class_means

_AGAINST = {
    "prior, pool": "ridge, pool",
    "prior, spread": "ridge, spread",
    "prior, power": "ridge, power",
    "uml": "unimodal-deep",
}
FAIR = load_grid("fair")
RIDGE, PRIOR = FAIR.crossed_points(prior=False), FAIR.crossed_points(prior=True)


@dataclass(frozen=True, eq=False)
class Data:
    """Pictures x, y, and texts t with labels l, of `classes` classes."""

    x: Tensor
    y: Tensor
    t: Tensor
    texts: Tensor
    classes: int


@dataclass(frozen=True, eq=False)
class Draw:
    """Rows to train on, to validate with, of the pool, and to score."""

    train: Tensor
    val: Tensor
    pool: Tensor
    score: Tensor
    seed: int


def opened(pictures: Path, texts: Path, open_test: bool) -> Data:
    with np.load(pictures) as a, np.load(texts) as b:
        keep = np.ones(len(a["labels"]), bool)
        if not open_test and "splits" in a:
            keep = a["splits"] != "test"
        names = sorted(set(a["labels"].tolist()))
        theirs = b["labels"] if b["labels"].dtype.kind in "UO" else b["classes"][b["labels"]]
        known = np.isin(theirs, names)
        return Data(
            torch.tensor(a["features"][keep], dtype=torch.float32),
            torch.tensor([names.index(n) for n in a["labels"][keep].tolist()]),
            torch.tensor(b["features"][known], dtype=torch.float32),
            torch.tensor([names.index(n) for n in theirs[known].tolist()]),
            len(names),
        )


def drawn(data: Data, k: int, seed: int) -> Draw:
    random = np.random.default_rng([seed, k])
    parts: list[list[int]] = [[], [], [], []]
    for c in range(data.classes):
        own = random.permutation(np.flatnonzero(data.y.numpy() == c))
        v = k + min(k, 4)
        half = v + (len(own) - v) // 2
        for part, (a, b) in zip(parts, ((0, k), (k, v), (v, half), (half, len(own))), strict=True):
            part += own[a:b].tolist()
    return Draw(*(torch.tensor(part) for part in parts), seed)


def model_of(
    data: Data, draw: Draw, normalizer: Normalizer, x: Tensor, kernel: Tensor | None, refit: bool = False
) -> HeadModel:
    rows = torch.cat([draw.train, draw.val]) if refit else draw.train
    return HeadModel(
        target=Samples(name="picture", features=normalizer(x[rows]), labels=data.y[rows], projected=False),
        validation=(normalizer(x[draw.val]), data.y[draw.val]),
        classes=data.classes, width=x.shape[1], seed=draw.seed, kernel=kernel,
        candidate=Candidate(lr=0.0, weight_decay=0.0, batch_size=1),
    )  # fmt: skip


def scored(
    data: Data, draw: Draw, points: tuple[Point, ...], kernel: Tensor | None, *, x: Tensor | None = None,
    fit_on: Tensor | None = None, refit: bool = False,
) -> float:  # fmt: skip
    """Accuracy in % of the point that is selected."""
    x = data.x if x is None else x
    normalizer = Normalizer.fit("shrunk", x[draw.train if fit_on is None else fit_on])
    model = model_of(data, draw, normalizer, x, kernel)
    fitted = solve(model, points)
    cross_validate(model, points, fitted)
    best = select(points, fitted)
    weights = fitted[best].weights
    if refit:
        rows = torch.cat([draw.train, draw.val])
        normalizer = Normalizer.fit("shrunk", x[rows if fit_on is None else fit_on])
        weights = solve(model_of(data, draw, normalizer, x, kernel, True), [points[best]])[0].weights
    found = weights.logits(normalizer(x[draw.score])).argmax(1)
    return 100.0 * float((found == data.y[draw.score]).float().mean())


def text_samples(data: Data, control: str | None = None, seed: int = 0) -> Samples:
    rows, labels = data.t, data.texts
    if control == "permuted":
        labels = permuted_labels(labels, seed)
    elif control == "random":
        rows = random_class_vectors(rows, labels, "text", seed)
    return Samples(name="text", features=Normalizer.fit("shrunk", rows)(rows), labels=labels, projected=False)


def kernel_of(data: Data, control: str | None = None, seed: int = 0) -> Tensor:
    return class_kernel([text_samples(data, control, seed)], data.classes)


def gram_kernel(data: Data, vectors: Callable[[Tensor], Tensor], first: bool = False) -> Tensor:
    """Centred products of class vectors, which `vectors` makes of the classes' means (of unit texts)."""
    rows, labels = torch.nn.functional.normalize(data.t, dim=1), data.texts
    if first:
        at = torch.tensor([int(torch.nonzero(labels == c)[0]) for c in labels.unique()])
        rows, labels = rows[at], labels[at]
    means, _ = class_means(rows, labels, data.classes)
    v = vectors(means)
    gram = v @ v.T
    return gram / gram.diagonal().mean()


def unit_centred(m: Tensor) -> Tensor:
    return torch.nn.functional.normalize(m - m.mean(0), dim=1)


def whitened(share: float) -> Callable[[Tensor], Tensor]:
    def vectors(m: Tensor) -> Tensor:
        left, s, _ = torch.linalg.svd(m - m.mean(0), full_matrices=False)
        return left * s / (s.square() + share * s.square().mean()).sqrt()

    return vectors


def mapped_mean(data: Data, draw: Draw, refit: bool) -> float:
    """Prior mean g · (what a ridge map from texts predicts of a class's mean without having seen it)."""
    normalizer = Normalizer.fit("shrunk", data.x[draw.train])
    means, _ = class_means(torch.nn.functional.normalize(data.t, dim=1), data.texts, data.classes)
    tau = unit_centred(means)
    gram = tau @ tau.T

    def logits(rows: Tensor, queries: Tensor, p: float, g: float, strength: float) -> Tensor:
        x = normalizer(data.x[rows]).double()
        centre = x.mean(0)
        x, q = x - centre, normalizer(data.x[queries]).double() - centre
        mu, _ = class_means(x.float(), data.y[rows], data.classes)
        inverse = torch.linalg.inv(gram + p * torch.eye(data.classes, dtype=torch.float64))
        # Left out by the closed form: residual over the inverse's diagonal.
        unseen = mu - (inverse @ mu) / inverse.diagonal().unsqueeze(1)
        y = torch.nn.functional.one_hot(data.y[rows], data.classes).double()
        y = y - y.mean(0)
        guess = x @ unseen.T
        prior = g * ((guess * y).sum() / guess.square().sum()).clamp_min(0.0) * unseen
        penalty = x.square().sum(1).mean() / strength
        dual = torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x), dtype=torch.float64), y - x @ prior.T)
        return q @ (prior.T + x.T @ dual)

    both = torch.cat([draw.train, draw.val])
    found = {}
    for p in (0.1, 1.0, 10.0):
        for g in (0.0, 0.5, 1.0, 2.0):
            for strength in (0.1, 1.0, 10.0, 100.0):
                hits = []
                for held in folds(data.y[both], draw.seed):
                    z = logits(both[~held], both[held], p, g, strength)
                    hits.append((z.argmax(1) == data.y[both[held]]).float().mean())
                found[p, g, strength] = float(torch.stack(hits).mean())
    p, g, strength = max(found, key=lambda key: found[key])
    z = logits(both if refit else draw.train, draw.score, p, g, strength)
    return 100.0 * float((z.argmax(1) == data.y[draw.score]).float().mean())


def spread_labels(data: Data, draw: Draw, kernel: Tensor | None) -> float:
    """Ridge regression that trains on the surest guesses of a first one about the pool, too."""
    normalizer = Normalizer.fit("shrunk", data.x[draw.pool])
    points = RIDGE if kernel is None else PRIOR
    model = model_of(data, draw, normalizer, data.x, kernel)
    fitted = solve(model, points)
    cross_validate(model, points, fitted)
    best = select(points, fitted)
    z = fitted[best].weights.logits(normalizer(data.x[draw.pool]))
    sure, guess = z.softmax(1).max(1)
    # The surest of each guessed class, as many as are labelled.
    k = len(draw.train) // data.classes
    chosen = [own[sure[own].argsort(descending=True)[:k]] for c in range(data.classes)
              if len(own := torch.nonzero(guess == c).flatten())]  # fmt: skip
    more = torch.cat(chosen)
    target = Samples(
        name="picture", projected=False, labels=torch.cat([data.y[draw.train], guess[more]]),
        features=torch.cat([normalizer(data.x[draw.train]), normalizer(data.x[draw.pool[more]])]),
    )  # fmt: skip
    weights = solve(replace(model, target=target), [points[best]])[0].weights
    found = weights.logits(normalizer(data.x[draw.score])).argmax(1)
    return 100.0 * float((found == data.y[draw.score]).float().mean())


def shared(data: Data, draw: Draw, method: str) -> float:
    """The network of `unimodal-deep` and `uml`, the latter with two weights of the texts."""
    normalizer = Normalizer.fit("shrunk", data.x[draw.train])
    plain = model_of(data, draw, normalizer, data.x, None)
    points = load_grid("fair", alpha=(0.1, 1.0)).points_for(auxiliary_loss=method == "uml")
    texts = text_samples(data)
    model = replace(
        plain, target=replace(plain.target, projected=True), width=texts.dim,
        auxiliaries=(texts,) if method == "uml" else (),
    )  # fmt: skip
    fitted = solve(model, points)
    cross_validate(model, points, fitted)
    weights = fitted[select(points, fitted)].weights
    found = weights.logits(normalizer(data.x[draw.score])).argmax(1)
    return 100.0 * float((found == data.y[draw.score]).float().mean())


def line(name: str, found: list[float], base: list[float]) -> str:
    d = np.subtract(found, base)
    half = float(student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5)
    return (
        f"  {name:34} {np.mean(found):6.2f}  {d.mean():+.2f} [{d.mean() - half:+.2f}, {d.mean() + half:+.2f}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=PICTURES.npz,TEXTS.npz")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--shots", default="1,2,4,8")
    parser.add_argument("--routes", action="store_true")
    parser.add_argument("--open-test", action="store_true")
    options = parser.parse_args()
    for given in options.data:
        name, _, files = given.partition("=")
        pictures, _, texts = files.partition(",")
        if not (Path(pictures).is_file() and Path(texts).is_file()):
            print(f"{name}: skipped, its files are not there")
            continue
        data = opened(Path(pictures), Path(texts), options.open_test)
        kernel = kernel_of(data)
        for k in map(int, options.shots.split(",")):
            found: dict[str, list[float]] = {}
            for seed in range(1, options.draws + 1):
                draw = drawn(data, k, seed)
                arms = {
                    "ridge": (RIDGE, None),
                    "prior": (PRIOR, kernel),
                    "prior[permuted]": (PRIOR, kernel_of(data, "permuted", seed)),
                    "prior[random]": (PRIOR, kernel_of(data, "random", seed)),
                }
                scores = {
                    arm + refit * " + refit": scored(data, draw, points, some, refit=refit)
                    for refit in (False, True)
                    for arm, (points, some) in arms.items()
                }
                if options.routes:
                    scores |= routes(data, draw, kernel)
                for arm, score in scores.items():
                    found.setdefault(arm, []).append(score)
            print(f"{name}, {data.classes} classes, k = {k}, {options.draws} draws", flush=True)
            for arm, values in found.items():
                base = _AGAINST.get(arm, "ridge + refit" if arm.endswith("refit") else "ridge")
                print(line(f"{arm} − {base}" if arm in _AGAINST else arm, values, found[base]))


def routes(data: Data, draw: Draw, kernel: Tensor) -> dict[str, float]:
    raised = data.x.sign() * data.x.abs() ** 0.75
    return {
        "kernel of products": scored(data, draw, PRIOR, gram_kernel(data, unit_centred)),
        "kernel, first text only": scored(data, draw, PRIOR, gram_kernel(data, unit_centred, first=True)),
        "kernel, not centred": scored(data, draw, PRIOR, gram_kernel(data, lambda m: m)),
        "kernel, whitened (1)": scored(data, draw, PRIOR, gram_kernel(data, whitened(1.0))),
        "kernel, whitened (0.1)": scored(data, draw, PRIOR, gram_kernel(data, whitened(0.1))),
        "mapped prior mean": mapped_mean(data, draw, refit=False),
        "mapped prior mean + refit": mapped_mean(data, draw, refit=True),
        "ridge, power": scored(data, draw, RIDGE, None, x=raised),
        "prior, power": scored(data, draw, PRIOR, kernel, x=raised),
        "ridge, pool": scored(data, draw, RIDGE, None, fit_on=draw.pool),
        "prior, pool": scored(data, draw, PRIOR, kernel, fit_on=draw.pool),
        "ridge, spread": spread_labels(data, draw, None),
        "prior, spread": spread_labels(data, draw, kernel),
        "unimodal-deep": shared(data, draw, "unimodal-deep"),
        "uml": shared(data, draw, "uml"),
    }


if __name__ == "__main__":
    main()
