"""An encoder that fails in the midst of the samples."""

from __future__ import annotations

from typing import Any

from uml_cache import WorkError


class Stops:
    """Fails once it has encoded so many batches."""

    def __init__(self, encoder: Any, after: int) -> None:
        self._encoder, self._left = encoder, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, *arguments: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise WorkError("stopped")
        return self._encoder.encode(*arguments, **options)
