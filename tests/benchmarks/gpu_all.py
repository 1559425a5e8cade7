"""Every CUDA path once, against the CPU's numbers, with its bound and the share of it that is reached.

    python tests/benchmarks/gpu_all.py --write                # one GPU; its part of RESULTS.md
    python tests/benchmarks/gpu_all.py --device cpu           # small, no GPU: that all of it runs

Where the product says `cuda`, and what runs it here:

- uml_cache/reading/loaders: choose.py (`loader: auto`), host.py (`loader: host`: pinned, a side stream)
- uml_extract/encoding: torch_device.py (`extraction`), batching.py (`batch size`)
- uml_extract: spec.py, pipeline.py, settings.py (`extraction`)
- uml_extract/executors: local.py, __init__.py (`extraction`); torchrun.py: not run, it needs two GPUs
- uml_extract/doctor.py (`doctor`)
- uml_train/heads: bank.py, stacked.py (`stacked bank`, `bank in bfloat16`), adamw.py (`compiled update`),
  sequence_model.py (`sequence heads`)
- uml_train/data: pool.py, placing.py; uml_train/runs: workers.py, calibration.py, estimate.py,
  settled/searching.py; settings.py (`whole run`)
- uml_train/finetune/network: steps.py (`fine-tuning`), backbones.py (`compiled network`)
- uml_train/pretrain/network: network_training.py, dropout.py (`pretraining`)
- uml_train/runs/ranks.py: NCCL; not run, it needs two GPUs
- uml_train/embed_command.py, uml_evaluate/commands/reproduce_command.py: pass `--device` on;
  uml_evaluate/reproduce/result.py: the GPU's name (`doctor` prints it)
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import torch
from gpu_paths import (
    LARGE,
    SMALL,
    Outcome,
    Place,
    batch_size,
    compiled_adamw,
    extraction,
    half_precision_bank,
    loader,
    loader_choice,
    stacked_bank,
)
from gpu_training import compiled_network, fine_tuning, pretraining, sequence_heads, whole_run

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = "## Every CUDA path: `gpu_all.py`"
NOT_RUN = ("gradients through NCCL: two GPUs", "torchrun's choice of a GPU: two GPUs")


def doctor(place: Place) -> Outcome:
    """`uml doctor` names the GPU."""
    words = [sys.executable, "-m", "uml_cache", "doctor"]
    said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return Outcome(float(torch.cuda.get_device_name() not in said), 0.0)


PATHS: dict[str, Callable[[Place], Outcome]] = {
    "stacked bank": stacked_bank,
    "bank in bfloat16": half_precision_bank,
    "compiled update": compiled_adamw,
    "loader: device": partial(loader, kind="device"),
    "loader: host": partial(loader, kind="host"),
    "loader: stream": partial(loader, kind="stream"),
    "loader: auto": loader_choice,
    "batch size": batch_size,
    "extraction": extraction,
    "fine-tuning": fine_tuning,
    "compiled network": compiled_network,
    "pretraining": pretraining,
    "sequence heads": sequence_heads,
    "whole run": whole_run,
    "doctor": doctor,
}
CUDA_ONLY = ("compiled update", "compiled network", "doctor")


def row(name: str, found: Outcome, spent: float, device: str) -> str:
    """A line of the table. Small sizes on a CPU have no rates that mean anything."""
    if device == "cpu":
        found = replace(found, rate=None, bound=None)
    share = "" if not found.rate or not found.bound else f"{100 * found.rate / found.bound:.0f} %"
    rate, bound = (f"{x:,.4g} {found.unit}" if x else "" for x in (found.rate, found.bound))
    return (
        f"| {name} | {found.difference:.1e} of {found.allowed:.0e} "
        f"| {rate} | {bound} | {found.by} | {share} | {spent:.0f} |"
    )


def write(lines: list[str], path: Path) -> None:
    """Put the section in place of the one that is there, else at the end."""
    before, head, after = path.read_text(encoding="utf-8").partition(f"{HEAD}\n")
    rest = after.partition("\n## ")
    tail = f"\n## {rest[2]}" if head and rest[1] else ""
    path.write_text(f"{before.rstrip()}\n\n{HEAD}\n\n" + "\n".join(lines) + f"\n{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--only", help="these paths, with commas between")
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: no CUDA device is here; --device cpu runs all of it small")
    name = torch.cuda.get_device_name() if given.device == "cuda" else f"no GPU, small ({platform.machine()})"
    lines = [
        f"`python tests/benchmarks/gpu_all.py --device {given.device}`: {name}, torch {torch.__version__}.",
        "", "| path | difference to the CPU | rate | bound | by | share | s |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    wrong, skipped = [], list(NOT_RUN)
    for path in given.only.split(",") if given.only else PATHS:
        if given.device == "cpu" and path in CUDA_ONLY:
            skipped.append(f"{path}: CUDA only")
            continue
        with tempfile.TemporaryDirectory() as folder:
            place = Place(given.device, LARGE if given.device == "cuda" else SMALL, Path(folder))
            began = time.perf_counter()
            try:
                found = PATHS[path](place)
            except Exception as error:  # one path that fails must not hide the others
                wrong.append(f"{path}: {type(error).__name__}: {error}")
                continue
        lines.append(row(path, found, time.perf_counter() - began, given.device))
        print(lines[-1], flush=True)
        if not found.difference <= found.allowed:
            wrong.append(f"{path}: apart by {found.difference:.1e}; at most {found.allowed:.0e} was expected")
    lines += ["", f"Not run: {'; '.join(skipped)}."]
    print(lines[-1])
    if given.write:
        write([*lines, *(f"Wrong: {one}" for one in wrong)], RESULTS)
    if wrong:
        raise SystemExit("\n".join(f"error: {one}" for one in wrong))


if __name__ == "__main__":
    main()
