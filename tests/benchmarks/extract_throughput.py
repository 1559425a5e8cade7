"""Race of the extractor: what reading, committing and bookkeeping cost beside the encoder and the decoder.

    python tests/benchmarks/extract_throughput.py --samples 2000

Renders `--samples` JPEGs of 500×375 pixels and, in rounds that take turns, measures in one process:

- `dinov2_vits14` (the architecture, random weights): `uml extract` against the bare encoder on ready tensors,
  same batch size, same threads. Needed: 0.95.
- `hog-color`, a cheap encoder: `uml extract` against Pillow decoding the same files to RGB and no more, in as
  many processes (`--decode-workers`). The encoder works in a process beside them: with as many decoders as
  cores it takes its time from them, with fewer it has a core of its own. Needed: 0.80. `hog-color reads` is
  the same against a rival that decodes at a part of the size, as this encoder's reader does.
- writing: whole tasks through `task_writer` (convert, check, hash, fsync, rename, record), as the extractor
  writes them, against one plain sequential file of the same bytes, with fsync. Needed: 0.70. `hashing` is
  sha256 of the same bytes by one thread: what this processor allows.
- `--texts N`: N short texts through a small BERT, by length against arrival order.
- on CUDA also ViT-L/14; where there is no device this is said.

Medians of the rounds; rows (or megabytes) per second and the ratio. `processors` is the ratio of processor
time, which other programs on the machine disturb less: 1 means that nothing is added to the rival's work.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uml_cache import StorePlan, create_or_resume
from uml_extract import Encoder, extract, load_encoder, read_sample
from uml_extract.encoding.writer import task_writer
from uml_extract.readers import read_for
from uml_extract.readers.prefetch import Reading, reader_count
from uml_manifests import NO_SPLIT, Manifest

NEEDED = {"dinov2_vits14": 0.95, "dinov2_vitl14": 0.90, "hog-color": 0.80, "writing": 0.70}


def pictures(folder: Path, count: int) -> Manifest:
    """JPEGs of 500×375 with the detail of a photograph: smooth shapes and some noise."""
    from PIL import Image

    generator = np.random.default_rng(0)
    y, x = np.mgrid[:375, :500]
    for at in range(count):
        a, b, c = generator.uniform(0.005, 0.05, 3)
        values = np.stack([np.sin(a * x + at), np.cos(b * y), np.sin(c * (x + y))], axis=2) * 90 + 128
        noise = generator.normal(0, 12, values.shape)
        Image.fromarray((values + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{at}.jpg", quality=90)
    return manifest_of("image", folder, [f"{at}.jpg" for at in range(count)])


def manifest_of(modality: str, root: Path, sources: list[str]) -> Manifest:
    count = len(sources)
    return Manifest(
        name="race",
        modality=modality,
        classes=("all",),
        root=root,
        ids=[str(at) for at in range(count)],
        sources=sources,
        labels=np.zeros(count, np.int32),
        splits=np.full(count, NO_SPLIT, np.uint8),
    )


def vision_encoder(name: str, folder: Path) -> Encoder:
    """The named encoder with random weights, loaded through the same path as the real ones."""
    import timm
    from safetensors.torch import save_file

    architecture = {
        "dinov2_vits14": "vit_small_patch14_dinov2",
        "dinov2_vitl14": "vit_large_patch14_dinov2",
    }[name]
    model = timm.create_model(architecture, pretrained=False, num_classes=0)
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    return load_encoder(name, weights=folder / f"{name}.safetensors")


Cost = tuple[float, float]  # seconds, and seconds of processors in this process and those it ended


def timed(work: Callable[[], Any]) -> Cost:
    began, used = time.perf_counter(), processors()
    work()
    return time.perf_counter() - began, processors() - used


def processors() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def race(rounds: int, ours: Callable[[int], Any], rival: Callable[[int], Any]) -> tuple[Cost, Cost]:
    """Median costs of both, which take turns."""
    costs: tuple[list[Cost], list[Cost]] = ([], [])
    for at in range(rounds):
        costs[0].append(timed(lambda at=at: ours(at)))
        costs[1].append(timed(lambda at=at: rival(at)))
    seconds = [[statistics.median(each) for each in zip(*side, strict=True)] for side in costs]
    return (seconds[0][0], seconds[0][1]), (seconds[1][0], seconds[1][1])


def against_encoder(manifest: Manifest, encoder: Encoder, scratch: Path, rounds: int) -> dict[str, float]:
    """`extract` against `encode` on a prepared batch, again and again."""
    size = encoder.batch_size
    ready = [prepare(manifest, encoder, row) for row in range(min(size, len(manifest)))]
    count = len(manifest)

    def bare(at: int) -> None:
        for first in range(0, count, size):
            encoder.encode(ready[: min(size, count - first)])

    encoder.encode(ready[: min(4, len(ready))])
    ours, rival = race(
        rounds, lambda at: extract(manifest, encoder, out=fresh(scratch), batch_size=size), bare
    )
    return rates(count, ours, rival)


def against_decoder(
    manifest: Manifest, encoder: Encoder, scratch: Path, rounds: int, workers: int, read: Callable[[int], Any]
) -> dict[str, float]:
    """`extract` against the readers alone, in as many processes."""

    def thrown_away(row: int) -> np.ndarray:
        read(row)
        return _NOTHING

    def decode(at: int) -> None:
        count = len(manifest)
        reading = Reading(thrown_away, 3 * encoder.batch_size, workers, count)
        with contextlib.closing(reading):
            assert sum(1 for _ in reading.read(iter(range(count)))) == count

    decode(0)  # files into the page cache
    ours, rival = race(
        rounds,
        lambda at: extract(manifest, encoder, out=fresh(scratch), decode_workers=workers),
        decode,
    )
    return rates(len(manifest), ours, rival)


def fresh(scratch: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=scratch))


_NOTHING = np.zeros(0)


def writing(scratch: Path, megabytes: int, rounds: int) -> dict[str, float]:
    """Tasks through the store against one plain file, MB/s."""
    width, task = 3840, 8192  # shards of 63 MB, as token features have them
    tasks = max(8, megabytes * 1_000_000 // (task * width * 2))
    rows = tasks * task
    values = np.random.default_rng(0).standard_normal((task, width), dtype=np.float32)
    block = values.astype(np.float16).tobytes()
    plan = StorePlan(
        dataset="race",
        modality="image",
        encoder={"name": "normal"},
        manifest_digest="race",
        classes=["all"],
        ids=[str(row) for row in range(rows)],
        labels=np.zeros(rows, np.int32),
        splits=np.zeros(rows, np.uint8),
        pooled_dim=width,
        batch_size=1,
        versions={},
        device="cpu",
    )
    status = np.zeros(task, np.uint8)

    def ours(at: int) -> None:
        with task_writer(stores[at]) as write:
            for number in range(tasks):
                write((number, values, None, status, {}, 0.0))

    def plain(at: int) -> None:
        with open(scratch / f"plain{at}", "wb") as stream:
            for _ in range(tasks):
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())

    began = time.perf_counter()
    hashlib.sha256(block)
    hashing = len(block) / 1e6 / (time.perf_counter() - began)
    stores = [create_or_resume(scratch / f"store{at}.zarr", plan) for at in range(rounds)]
    result = race(rounds, ours, plain)
    return {**rates(tasks * len(block) / 1e6, *result), "hashing": hashing}


def texts(scratch: Path, count: int, rounds: int) -> dict[str, float]:
    """A small BERT (2 layers of 128) over texts of 1 to 60 words: sorted by length, and as they come."""
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [f"w{at}" for at in range(2000)]
    vocabulary = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
    hf.BertModel(hf.BertConfig(vocab_size=len(vocabulary), **shape)).save_pretrained(scratch / "bert")
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(scratch / "bert")
    generator = np.random.default_rng(0)
    lengths = np.minimum(generator.geometric(1 / 12, count), 60)
    manifest = manifest_of("text", scratch, [" ".join(generator.choice(words, size)) for size in lengths])
    encoder: Any = load_encoder(str(scratch / "bert"))
    arrival = Arrival(encoder)
    ours, rival = race(
        rounds,
        lambda at: extract(manifest, encoder, out=scratch / f"sorted{at}", batch_size=32),
        lambda at: extract(manifest, arrival, out=scratch / f"arrival{at}", batch_size=32),
    )
    return rates(count, ours, rival)


class Arrival:
    """The same encoder, whose samples are not said to differ in length: batches in arrival order."""

    ragged = False

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.spec = dataclasses.replace(encoder.spec, name=f"{encoder.spec.name}-arrival")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def prepare(manifest: Manifest, encoder: Encoder, row: int) -> np.ndarray:
    sample = read_sample(manifest, row, rate=encoder.input_rate, seconds=encoder.input_seconds)
    return encoder.prepare(sample)


def rates(amount: float, ours: Cost, rival: Cost) -> dict[str, float]:
    return {
        "ours": amount / ours[0],
        "rival": amount / rival[0],
        "ratio": rival[0] / ours[0],
        "processors": rival[1] / ours[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="pictures")
    parser.add_argument("--decode-workers", type=int, help="decoding processes (default: one per core)")
    parser.add_argument("--texts", type=int, default=0, help="texts, 200000 for the published figure")
    parser.add_argument("--megabytes", type=int, default=1000, help="to write")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="torch threads; default: torch's own choice")
    parser.add_argument("--only", help="names of the races to run, with commas")
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    workers = options.decode_workers or reader_count("auto", "image", 1)
    only = options.only.split(",") if options.only else None
    cuda = torch.cuda.is_available()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        scratch = Path(name)
        (scratch / "pictures").mkdir()
        manifest = pictures(scratch / "pictures", options.samples)

        def encoders(name: str) -> dict[str, float]:
            return against_encoder(manifest, vision_encoder(name, scratch), scratch, options.rounds)

        hog = load_encoder("hog-color")

        def decoders(read: Callable[[int], Any]) -> dict[str, float]:
            return against_decoder(manifest, hog, scratch, options.rounds, workers, read)

        races: dict[str, Callable[[], dict[str, float]]] = {
            "dinov2_vits14": lambda: encoders("dinov2_vits14"),
            "hog-color": lambda: decoders(lambda row: read_sample(manifest, row, rate=0, seconds=0.0)),
            "hog-color reads": lambda: decoders(lambda row: read_for(hog, manifest, row)),
            "writing": lambda: writing(scratch, options.megabytes, options.rounds),
        }
        if options.texts:
            races["texts"] = lambda: texts(scratch, options.texts, options.rounds)
        if cuda:
            races["dinov2_vitl14"] = lambda: encoders("dinov2_vitl14")
        result = {name: run() for name, run in races.items() if only is None or name in only}
    load = os.getloadavg()[0]
    where = torch.cuda.get_device_name() if cuda else f"{len(os.sched_getaffinity(0))} × {platform.machine()}"
    about = {
        "where": where,
        "load": round(load, 1),
        "threads": torch.get_num_threads(),
        "decode workers": workers,
        "samples": options.samples,
    }
    if options.json:
        print(json.dumps({**about, "cuda": cuda, "races": result}))
        return
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'race':<16}{'ours /s':>12}{'rival /s':>12}{'ratio':>8}{'needed':>8}{'processors':>12}")
    for name, row in result.items():
        needed = f"{NEEDED[name]:.2f}" if name in NEEDED else ""
        print(
            f"{name:<16}{row['ours']:>12,.1f}{row['rival']:>12,.1f}{row['ratio']:>8.3f}{needed:>8}{row['processors']:>12.3f}"
        )
        if "hashing" in row:
            print(f"{'  hashing':<16}{row['hashing']:>12,.1f}")
    if not cuda:
        print("dinov2_vitl14 did not run: there is no CUDA device here")


if __name__ == "__main__":
    main()
