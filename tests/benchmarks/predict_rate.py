"""What people wait for: `uml predict` against `uml extract`, `import uml`, and `uml eval` of a finished run.

    python tests/benchmarks/predict_rate.py --samples 2000

Renders `--samples` JPEGs of 500×375 pixels and trains a head on some of them. Then, taking turns:

- `hog-color` and `tf_efficientnet_lite0` (the architecture, random weights): rows per second of `uml predict`
  into a CSV, and of `uml extract` into a new store, same files (a tenth of them for the network), same
  decoders. Needed: 0.90 of extraction.
- `import uml` in a new process, less the bare interpreter. Needed: under 0.3 s.
- `uml eval` of the finished run in a new process, the interpreter included. Needed: under 1 s.

Medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NEEDED = {"predict": 0.90, "import uml": 0.3, "uml eval": 1.0}
CLASSES = ("circle", "stripes")


def pictures(folder: Path, count: int) -> None:
    """JPEGs of 500×375 with the detail of a photograph, in two folders of classes."""
    from PIL import Image

    generator = np.random.default_rng(0)
    y, x = np.mgrid[:375, :500]
    for at in range(count):
        name = CLASSES[at % 2]
        a, b, c = generator.uniform(0.005, 0.05, 3)
        wave = np.hypot(x - 250, y - 180) if name == "circle" else x * a + y * b
        smooth = np.stack([np.sin(wave * c + shift) for shift in (0, 1, 2)], -1)
        pixels = 127 + 90 * smooth + generator.normal(0, 12, (375, 500, 3))
        (folder / name).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / name / f"{at:05d}.jpg", quality=88)


def weights(folder: Path) -> Path:
    """Random weights of a small network, as a file."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = folder / "lite0.safetensors"
    save_file(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict(), path)
    return path


def uml(*words: object, folder: Path) -> tuple[float, str]:
    """Seconds of a command in a process of its own, and what it printed."""
    code = "from uml_cache.cli import main; main()"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"uml {words[0]}: {done.stderr}")
    return time.perf_counter() - began, done.stdout


def race(name: str, options: list[object], files: Path, folder: Path, rounds: int) -> float:
    """Rows per second of both commands by their own count, which leaves loading out; the median ratio."""
    ratios = []
    for at in range(rounds):
        store = folder / f"again-{at}"
        words = ["--encoder", name, *options, "--data", files, "--name", "race", "--out", store, "--json"]
        rows = {}
        for what in ("extract", "predict") if at % 2 else ("predict", "extract"):
            if what == "extract":
                found = json.loads(uml("extract", *words, folder=folder)[1])
            else:
                out = folder / f"{at}.csv"
                found = json.loads(
                    uml("predict", folder / f"runs-{name.replace(':', '-')}", files, "--out", out,
                        "--encoder", name, *options, "--json", folder=folder)[1]
                )  # fmt: skip
            rows[what] = found["rows_per_second"]
        shutil.rmtree(store)
        ratios.append(rows["predict"] / rows["extract"])
        both = f"predict {rows['predict']:,.0f} rows/s, extract {rows['extract']:,.0f}"
        print(f"  {name}: {both}, {ratios[-1]:.2f}×")
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {arguments.samples} pictures")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = folder / "pictures"
        pictures(files, arguments.samples)
        small = folder / "small"
        for name in CLASSES:
            (small / name).mkdir(parents=True)
            for file in sorted((files / name).iterdir())[:40]:
                shutil.copy(file, small / name)
        encoders: dict[str, list[object]] = {
            "hog-color": [],
            "timm:tf_efficientnet_lite0": ["--weights", weights(folder)],
        }
        for name, options in encoders.items():
            feats, runs = (
                folder / f"feats-{name.replace(':', '-')}",
                folder / f"runs-{name.replace(':', '-')}",
            )
            uml(
                "extract",
                "--encoder",
                name,
                *options,
                "--data",
                small,
                "--name",
                "race",
                "--out",
                feats,
                folder=folder,
            )
            uml(
                "train",
                "--cache",
                feats,
                "--method",
                "unimodal",
                "--shots",
                4,
                "--seeds",
                "1-2",
                "--out",
                runs,
                folder=folder,
            )
            if options:
                files = folder / "some"
                pictures(files, arguments.samples // 10)
            ratio = race(name, options, files, folder, arguments.rounds)
            print(f"{name}: uml predict at {ratio:.2f} of uml extract ({NEEDED['predict']:.2f} needed)")
        runs = folder / "runs-hog-color"
        uml("eval", "--runs", runs, "--k", 4, folder=folder)
        finished = [uml("eval", "--runs", runs, "--k", 4, folder=folder)[0] for _ in range(5)]
        seconds = statistics.median(finished)
        print(f"uml eval of a finished run: {seconds:.2f} s (under {NEEDED['uml eval']:.1f} needed)")
        code = "import time; a = time.perf_counter(); import uml; print(time.perf_counter() - a)"
        took = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, check=True
                ).stdout
            )
            for _ in range(5)
        ]
        print(f"import uml: {statistics.median(took):.2f} s (under {NEEDED['import uml']:.1f} needed)")


if __name__ == "__main__":
    main()
