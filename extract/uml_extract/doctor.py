"""`uml doctor`: what there is on this machine, and how fast each encoder at hand is."""

from __future__ import annotations

import os
import platform
import shutil
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from uml_cache import QUIET, InputError, Output, available_cores, memory_bytes, no_processes
from uml_extract.encoders.hub import hub_answers
from uml_extract.encoding.batching import encode_batch
from uml_extract.readers import Sound
from uml_extract.registry.at_hand import weights_at_hand
from uml_extract.registry.registry import list_encoders, load_encoder
from uml_extract.spec import Encoder

_PACKAGES = (
    *("uml-cache", "torch", "torchvision", "timm", "transformers", "open_clip_torch", "zarr", "numpy"),
    *("datasets", "ray", "onnx", "onnxruntime"),
)
_SECONDS = 1.0  # that each encoder is timed for, about
_WORDS = "a small brown bird with a white breast sits on a branch above the water "
_LEAST_FREE = 5e9  # bytes


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found. `encoders` maps the names of those whose weights are here to milliseconds a sample, or
    to the reason why they cannot be loaded; those of `absent` have no weights here. `remarks` need a
    person's eye.
    """

    machine: dict[str, Any]
    devices: list[str]
    versions: dict[str, str | None]
    disk: dict[str, float]
    hub: bool
    encoders: dict[str, float | str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml doctor --json`."""
        return vars(self)

    def text(self) -> str:
        """What a person reads."""
        machine = self.machine
        lines = [
            f"machine   {machine['system']}, Python {machine['python']}, {machine['cores']} cores, "
            f"{machine['memory_gb']:.0f} GB memory",
            f"devices   {', '.join(self.devices)}",
            "versions  " + ", ".join(f"{name} {found or 'absent'}" for name, found in self.versions.items()),
            "disk      " + ", ".join(f"{place} {free:.0f} GB free" for place, free in self.disk.items()),
            "network   the hub "
            f"{'answers' if self.hub else 'cannot be reached: only weights that are here can be used'}",
            "",
            "encoders whose weights are here, timed one at a time:",
        ]
        for name, found in self.encoders.items():
            said = f"{found:8.2f} ms a sample" if isinstance(found, float) else f"cannot be loaded: {found}"
            lines.append(f"  {name:<20} {said}")
        lines += ["", f"without weights here: {', '.join(self.absent) or 'none'}"]
        lines += [f"note: {remark}" for remark in self.remarks]
        return "\n".join(lines)


def check(*, timing: bool = True, device: str = "auto", output: Output = QUIET) -> Checked:
    """Look at the machine.

    Args:
        timing: whether the encoders at hand are loaded and timed.
        device: where they run.
    """
    remarks: list[str] = []
    if reason := no_processes():
        remarks.append(f"{reason}: work stays in one process")
    places = {"here": Path.cwd(), "cache of weights": _hub_folder()}
    disk = {name: shutil.disk_usage(_existing(place)).free / 1e9 for name, place in places.items()}
    remarks += [f"{name} has little space left" for name, free in disk.items() if free * 1e9 < _LEAST_FREE]
    names = [name for name in list_encoders() if not name.endswith(":")]
    here = [name for name in names if weights_at_hand(name)]
    timed: dict[str, float | str] = {}
    if timing:
        with output.progress(len(here), " encoders", "timing") as bar:
            for name in here:
                if list_encoders()[name].spec.modality != "array":
                    timed[name] = _timed(name, device)
                bar.update()
    return Checked(
        machine={
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
            "cores": available_cores(),
            "memory_gb": memory_bytes() / 1e9,
        },
        devices=_devices(),
        versions={package: _version(package) for package in _PACKAGES},
        disk=disk,
        hub=hub_answers(),
        encoders=timed,
        absent=[name for name in names if name not in here],
        remarks=remarks,
    )


def _timed(name: str, device: str) -> float | str:
    """Milliseconds a sample, from a sample in memory to its features, in batches of the encoder's size."""
    try:
        encoder = load_encoder(name, device=device)
        sample = _sample(encoder)
        size = min(encoder.batch_size, 8)
        encode_batch(encoder, [encoder.prepare(sample)] * size, tokens=False)
        began, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - began < _SECONDS:
            encode_batch(encoder, [encoder.prepare(sample) for _ in range(size)], tokens=False)
            done += size
        return 1000.0 * (time.perf_counter() - began) / done
    except InputError as error:
        return str(error)


def _sample(encoder: Encoder) -> Any:
    """A picture of 500 × 375 pixels, a sentence, or the longest sound that the encoder looks at."""
    rng = np.random.default_rng(0)
    if encoder.spec.modality == "text":
        return _WORDS.strip()
    if encoder.spec.modality == "audio":
        length = int(min(encoder.input_seconds, 10.0) * encoder.input_rate)
        return Sound(rng.normal(0, 0.1, length).astype(np.float32), encoder.input_rate)
    from PIL import Image

    return Image.fromarray(rng.integers(0, 256, (375, 500, 3), dtype=np.uint8))


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        found.append(f"cuda:{index} ({about.name}, {about.total_memory / 1e9:.0f} GB)")
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _hub_folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _existing(place: Path) -> Path:
    while not place.exists():
        place = place.parent
    return Path(os.path.realpath(place))
