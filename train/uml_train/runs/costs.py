"""What `uml train --dry-run` says: how much there is to train, and for how long."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """What `--dry-run` says.

    `seconds` is what the run takes, by models that were trained to their end where that is quick;
    `seconds_at_most` and `model_steps` are those without early stopping. `head_bytes` are the heads that the
    run would write (the networks, without labels and in fine-tuning); `bank_bytes` is what training holds at
    once: models with gradients and moments, without the features and what a batch takes.
    """

    dataset: str
    target: str
    cells: int
    models: int
    model_steps: int
    head_bytes: int
    bank_bytes: int
    device: str
    processes: int
    seconds: float
    seconds_at_most: float
    objective: str = "supervised"

    def later(self, seconds: float) -> Estimate:
        """The same with so many seconds before it."""
        return replace(self, seconds=self.seconds + seconds, seconds_at_most=self.seconds_at_most + seconds)

    def to_json(self) -> dict[str, Any]:
        """The answer of `uml train --dry-run --json`."""
        return asdict(self)

    def text(self) -> str:
        """The answer for the terminal."""
        what = "heads" if self.objective == "supervised" else "networks"
        at_most = "at most " if self.objective in ("supervised", "finetune") else ""
        where = f"{self.processes} process{'es' if self.processes > 1 else ''}, {self.device}"
        return (
            f"{self.dataset}, target {self.target}: {self.cells} cells, {self.models} models, {at_most}"
            f"{self.model_steps:,} steps\n"
            f"bytes    {bytes_text(self.head_bytes)} of {what} to write, "
            f"{bytes_text(self.bank_bytes)} in training\n"
            f"time     {self.time()} ({where}; calibrated just now)\n"
            f"{'no run was begun' if self.objective == 'finetune' else 'nothing was written'}"
        )

    def time(self) -> str:
        """Such as `about 12 s, at most 40 s without early stopping`."""
        return likely_text(self.seconds, self.seconds_at_most)


def likely_text(seconds: float, at_most: float) -> str:
    """Such as `about 12 s, at most 40 s without early stopping`; the time alone where both are the same."""
    about, most = time_text(seconds), time_text(at_most)
    return f"about {about}" + (f", at most {most} without early stopping" if most != about else "")


def bytes_text(count: int) -> str:
    """Such as `3 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def time_text(seconds: float) -> str:
    """A duration in seconds for people, such as `12 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
