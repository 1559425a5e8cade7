"""Samples that are in memory and in no file: pictures, sounds, or a collection that gives them on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uml_manifests.manifest.fetched import Fetched
from uml_manifests.manifest.manifest import Manifest


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldManifest(Manifest):
    """A manifest whose samples are `held[row]`, whatever a reader can turn into one of its modality.

    Args:
        held: N samples; it is asked for one at a time, from several processes.

    `sources` name the samples by their content, so that the digest tells one collection from another.
    """

    held: Sequence[Any] = field(default=())

    @property
    def fetched(self) -> bool:
        """Whether they come over connections of this process, which no forked reader can use."""
        return isinstance(self.held, Fetched)

    def _of_rows(self, rows: Sequence[int] | np.ndarray) -> dict[str, Any]:
        if isinstance(self.held, Fetched):
            return {"held": self.held.some([int(row) for row in rows])}
        return {"held": [self.held[int(row)] for row in rows]}
