"""The rows of one modality of a stack's models, each draw on the device once, or left in its store.

Shapes: M models, N rows of all different draws together, n rows of a step, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from uml_train.data.rows import Held, Stored

if TYPE_CHECKING:
    from uml_train.heads.models import Samples


class Pool:
    """Labels (N,) on the device, and where each model's rows begin: offsets (M, 1).

    Features lie on the device if they are in memory; rows in a store are gathered on the host and brought
    over at every step.
    """

    def __init__(self, samples: Sequence[Samples], device: torch.device) -> None:
        places: dict[int, int] = {}
        self._draws: list[tuple[int, Held | Stored]] = []
        labels: list[Tensor] = []
        at = 0
        for part in samples:
            # The same object is the same draw: candidates of a cell share theirs.
            if id(part.features) not in places:
                places[id(part.features)] = at
                self._draws.append((at, part.rows))
                labels.append(part.labels)
                at += len(part.labels)
        self.device = device
        held = [rows.values for _, rows in self._draws if isinstance(rows, Held)]
        self._features = torch.cat(held).to(device) if len(held) == len(self._draws) else None
        self.labels: Tensor = torch.cat(labels).to(device)
        starts = [[places[id(part.features)]] for part in samples]
        self.offsets: Tensor = torch.tensor(starts, dtype=torch.int64, device=device)

    def take(self, index: Tensor) -> Tensor:
        """Features (M, n, D) of rows `index` (M, n) int64 in 0 … N − 1."""
        if self._features is not None:
            return self._features[index]
        flat = index.flatten().cpu()
        values = torch.empty(len(flat), self._draws[0][1].dim, pin_memory=self.device.type == "cuda")
        for start, rows in self._draws:
            here = torch.nonzero((flat >= start) & (flat < start + len(rows))).flatten()
            if len(here):
                values[here] = rows.take(flat[here] - start).values
        return values.to(self.device, non_blocking=True).view(*index.shape, -1)

    def keep(self, index: Tensor) -> None:
        """Keep the models at `index` (M′,) int64 only."""
        self.offsets = self.offsets.index_select(0, index)
