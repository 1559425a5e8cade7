"""What an append of 1 % costs, as a share of the first extraction; and what keeping stamps costs.

    python tests/benchmarks/append_cost.py --samples 4000 --weights FOLDER/tf_efficientnet_lite0.safetensors

Pictures of 96 pixels go through an encoder (by default EfficientNet-Lite0), then 1 % are added, and the same
extraction runs again. Both run in this process, without decoding processes, after the encoder is loaded and
warm. Times are seconds of the processor; bytes are those on the disk, each file once.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uml_extract import extract, load_encoder
from uml_extract.growing.stamps import sample_stamps
from uml_manifests import resolve_data


def draw(folder: Path, first: int, count: int) -> None:
    """Pictures of two classes, each its own noise."""
    for at in range(first, first + count):
        place = folder / ("owl" if at % 2 else "wren")
        place.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(at).integers(0, 255, (12, 12, 3), np.uint8)
        Image.fromarray(noise).resize((96, 96)).save(place / f"{at}.jpg")


def bytes_below(folder: Path) -> int:
    """Bytes of all files, those with several names once."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            status = os.stat(os.path.join(place, name))
            found[status.st_ino] = status.st_size
    return sum(found.values())


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of some work, and what it gave."""
    began = time.process_time()
    done = work()
    return time.process_time() - began, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--encoder", default="timm:tf_efficientnet_lite0")
    parser.add_argument("--weights")
    options = parser.parse_args()
    encoder = load_encoder(options.encoder, weights=options.weights, device="cpu")
    with tempfile.TemporaryDirectory() as name:
        data, feats = Path(name) / "birds", Path(name) / "feats"
        draw(data, 0, 64)

        def run(where: Path) -> Any:
            manifest = resolve_data(str(data), modality="image")
            return extract(manifest, encoder, out=where, decode_workers=0)

        run(Path(name) / "warm")
        draw(data, 64, options.samples - 64)
        first, _ = timed(lambda: run(feats))
        before = bytes_below(feats)
        stamps, _ = timed(lambda: sample_stamps(resolve_data(str(data), modality="image")))
        listing, _ = timed(lambda: resolve_data(str(data), modality="image"))
        draw(data, options.samples, options.samples // 100)
        again, done = timed(lambda: run(feats))
        nothing, _ = timed(lambda: run(feats))
        print(f"first extraction of {options.samples:,}: {first:.1f} s, {before / 1e6:.1f} MB")
        print(f"append of {done.grew.new}: {again:.2f} s, {again / first:.2%} of it (wanted: at most 3 %)")
        print(f"  and {bytes_below(feats) / before - 1:.2%} more bytes")
        print(
            f"nothing new: {nothing:.2f} s; stamps: {(stamps - listing) / first:.2%} of the first extraction"
        )


if __name__ == "__main__":
    main()
