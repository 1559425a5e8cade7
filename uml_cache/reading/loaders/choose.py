"""The loader that fits: on the device if the set does, else on the host, else streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from uml_cache.errors import unknown
from uml_cache.machine import memory_bytes
from uml_cache.reading.loaders.batch import Loader, kind_of
from uml_cache.reading.loaders.device import DeviceLoader
from uml_cache.reading.loaders.host import HostLoader
from uml_cache.reading.loaders.stream import StreamLoader

if TYPE_CHECKING:
    from uml_cache.reading.features import FeatureSet
    from uml_cache.reading.sampler import Sampler

KINDS = ("auto", "device", "host", "stream")


def make_loader(
    features: FeatureSet,
    sampler: Sampler,
    *,
    part: str = "pooled",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    kind: str = "auto",
) -> Loader:
    """A loader of `part` (`pooled` or `tokens`) of a store for `device`.

    `kind` `auto` takes `device` on an accelerator with twice the memory that the sampler's rows need free,
    `host` when the rows fit into the machine's memory (a mapped store needs none of its own), else `stream`.
    The kernel is told when only a small part of a mapped store is going to be read.

    Raises:
        InputError: there is no such part or strategy.
    """
    if kind not in KINDS:
        raise unknown("loader", kind, KINDS)
    place = torch.device(device)
    if kind == "auto":
        kind = _fitting(_bytes(features, sampler, part), place)
    if part == "pooled":
        few = len(sampler.rows) * 10 < len(features) and kind != "stream"
        features.advise("random" if few else "normal")
    made = {"device": DeviceLoader, "host": HostLoader, "stream": StreamLoader}[kind]
    return made(features, sampler, part=part, device=place, dtype=dtype)


def _bytes(features: FeatureSet, sampler: Sampler, part: str) -> int:
    width, stored = kind_of(features, part)
    rows = len(np.unique(sampler.rows))
    if part == "tokens":
        rows = int(features.tokens.lengths[np.unique(sampler.rows)].sum(dtype=np.int64))
    return rows * width * torch.empty((), dtype=stored).element_size()


def _fitting(size: int, device: torch.device) -> str:
    if device.type == "cuda" and 2 * size <= torch.cuda.mem_get_info(device)[0]:
        return "device"
    return "host" if size <= memory_bytes() * 0.8 else "stream"
