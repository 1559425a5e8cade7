"""Where a cell's features wait while its models train: in memory, mapped from the store, or streamed from it.

The numbers are the same in any of these places (`rows.py`); memory and time are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from uml_cache import memory_bytes
from uml_train.data.rows import Rows, Stored


def chosen_loader(parts: Sequence[Stored], loader: str, device: str, copies: int) -> str:
    """`device`, `host` or `stream` for the rows of one cell.

    `auto` holds float32 copies where `copies` cells at once take at most a quarter of the machine's memory
    (on CUDA: half of what is free there); else rows stay in stores that are mapped, or that fit into half of
    the memory as they are; else they are streamed.
    """
    if loader != "auto":
        return loader
    wanted = 4 * sum(part.numbers for part in parts) * copies
    memory = memory_bytes()
    cuda = device != "cpu" and torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] // 2 if cuda else memory
    if wanted <= min(free, memory // 4):
        return "device"
    stores = {part.features.path: part for part in parts}.values()
    whole = sum(
        len(part.features) * part.dim * part.features.source.dtype.itemsize
        for part in stores
        if part.features.access != "mapped" and not part.ragged
    )
    return "host" if whole * copies <= memory // 2 else "stream"


def placed(part: Stored, loader: str) -> Rows:
    """The rows where `loader` wants them."""
    return replace(part, loader="host").held() if loader == "device" else replace(part, loader=loader)


def plain(rows: Rows) -> Tensor | Rows:
    """Vectors in memory as the bare tensor (n, D) float32, which the bank trains fastest on; anything else as
    it is."""
    return rows.values if not isinstance(rows, Stored) and not rows.ragged else rows
