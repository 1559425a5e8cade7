"""A network's state on disk while it trains: a killed run goes on and ends where it would have."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from uml_cache import write_atomic

_MARK = b"uml checkpoint, sha256 "


def _unsaid(_: str) -> None:
    return None


@dataclass(frozen=True)
class Checkpoint:
    """One file: tensors and plain values, read without running code, behind a line with their checksum.

    Args:
        say: told where a damaged file is left aside.
    """

    path: Path
    say: Callable[[str], None] = _unsaid

    def write(self, content: dict[str, Any]) -> None:
        """Replace the file; it is whole or as it was."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        write_atomic(self.path, _MARK + hashlib.sha256(data).hexdigest().encode() + b"\n" + data)

    def read(self) -> dict[str, Any] | None:
        """What was written last; None where nothing was or it is damaged, and training starts anew."""
        try:
            line, _, data = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if line != _MARK + hashlib.sha256(data).hexdigest().encode():
            self.say(f"{self.path} is damaged (it does not match its checksum); its network is trained again")
            return None
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return content

    def remove(self) -> None:
        """Forget it: the training is over."""
        self.path.unlink(missing_ok=True)
