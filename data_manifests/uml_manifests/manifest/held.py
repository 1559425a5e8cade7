"""Samples that are in memory and in no file: pictures, sounds, or a collection that gives them on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uml_manifests.manifest.manifest import Manifest


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldManifest(Manifest):
    """A manifest whose samples are `held[row]`, whatever a reader can turn into one of its modality.

    Args:
        held: N samples; it is asked for one at a time, from several processes.

    `sources` name the samples by their content, so that the digest tells one collection from another.
    """

    held: Sequence[Any] = field(default=())

    def _of_rows(self, rows: Sequence[int] | np.ndarray) -> dict[str, Any]:
        return {"held": [self.held[int(row)] for row in rows]}
