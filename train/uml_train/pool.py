"""The rows of one modality of a stack's models, each draw on the device once.

Shapes: M models, N rows of all different draws together, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from uml_train.bank import Samples


class Pool:
    """Features (N, D) and labels (N,) on the device, and where each model's rows begin: offsets (M, 1)."""

    def __init__(self, samples: Sequence[Samples], device: torch.device) -> None:
        places: dict[int, int] = {}
        different: list[Samples] = []
        at = 0
        for part in samples:
            # The same tensor is the same draw: candidates of a cell share theirs.
            if id(part.features) not in places:
                places[id(part.features)] = at
                different.append(part)
                at += len(part.labels)
        self.features: Tensor = torch.cat([part.features for part in different]).to(device)
        self.labels: Tensor = torch.cat([part.labels for part in different]).to(device)
        starts = [[places[id(part.features)]] for part in samples]
        self.offsets: Tensor = torch.tensor(starts, dtype=torch.int64, device=device)

    def keep(self, index: Tensor) -> None:
        """Keep the models at `index` only."""
        self.offsets = self.offsets.index_select(0, index)
