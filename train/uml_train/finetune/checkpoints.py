"""A model's training state on disk, so that a killed run goes on and ends where it would have ended."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from uml_cache.errors import InputError
from uml_train.run import write_atomic


@dataclass(frozen=True)
class Checkpoint:
    """One file: tensors and plain values, read without running code."""

    path: Path

    def write(self, content: dict[str, Any]) -> None:
        """Replace the file; it is whole or as it was."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomic(self.path, buffer.getvalue())

    def read(self) -> dict[str, Any] | None:
        """What was written last, None where nothing was. Raises `InputError` for a damaged file."""
        if not self.path.exists():
            return None
        try:
            content: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch's reader raises nearly anything on broken bytes
            first = " ".join(str(error).split())[:120]
            raise InputError(
                f"{self.path} is damaged ({first}); delete it, and its model is trained again"
            ) from None
        return content
