"""Shard files mapped back to back into one tensor, without copying a byte.

A range of addresses is reserved for the whole array and each shard file is mapped at its place in it, which
works when shards are whole pages. The maps are private and copy-on-write: writing to the tensor never reaches
the file. Linux only; who calls falls back when `NotMappable` is raised.

Shapes: V rows of the array, D features.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from uml_cache.store.plans.layout import ShardedArray

if TYPE_CHECKING:
    import torch

_MAP_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value
_ADVICE = {"normal": 0, "random": 1, "sequential": 2, "willneed": 3}
ADVICE = tuple(_ADVICE)
_MOST_MAPS = 65_530 // 2  # the kernel's usual limit a process, shared with everything else that maps


class NotMappable(RuntimeError):
    """Why an array cannot be mapped here."""


def map_shards(
    paths: Sequence[Path], used_rows: Sequence[int], array: ShardedArray
) -> tuple[torch.Tensor, int]:
    """Map `used_rows[i]` rows of each shard file, flat from byte 0, into one (V, D) tensor.

    Returns the tensor, in the array's dtype, and its address. The maps live as long as the tensor's memory.
    Rows of a shard beyond `used_rows` must not be touched. Raises `NotMappable` with the reason.
    """
    import torch

    shard_bytes = array.shard_rows * array.row_bytes
    if sys.platform != "linux":
        raise NotMappable(f"mapping needs Linux, this is {sys.platform}")
    if sys.byteorder != "little":
        raise NotMappable("mapping needs a little-endian machine")
    if shard_bytes % mmap.PAGESIZE and len(paths) > 1:
        raise NotMappable(f"a shard of {array.name} is {shard_bytes} bytes, not whole pages")
    if len(paths) > _MOST_MAPS:
        raise NotMappable(f"{len(paths)} shards are more than a process may map")
    size = array.rows * array.row_bytes
    libc = _libc()
    address = libc.mmap(None, size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if address == _FAILED:
        raise NotMappable(f"cannot reserve {size} bytes of addresses: {os.strerror(ctypes.get_errno())}")
    buffer = (ctypes.c_char * size).from_address(address)
    release = weakref.finalize(buffer, libc.munmap, address, size)
    release.atexit = False  # tensors may still be in use while the interpreter goes down
    for at, (path, used) in enumerate(zip(paths, used_rows, strict=True)):
        if used == 0:
            continue
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            place = libc.mmap(
                address + at * shard_bytes,
                used * array.row_bytes,
                mmap.PROT_READ | mmap.PROT_WRITE,
                mmap.MAP_PRIVATE | _MAP_FIXED,
                handle,
                0,
            )
        finally:
            os.close(handle)
        if place == _FAILED:
            raise NotMappable(f"cannot map {path}: {os.strerror(ctypes.get_errno())}")
    tensor = torch.frombuffer(buffer, dtype=getattr(torch, array.dtype)).view(array.rows, -1)
    return tensor, address


def advise(address: int, size: int, pattern: str) -> None:
    """Tell the kernel how a mapped range will be read: one of `ADVICE`."""
    _libc().madvise(address, size, _ADVICE[pattern])


def fetch(address: int, rows: np.ndarray, row_bytes: int) -> None:
    """Ask the kernel at once for the pages of `rows` (n,) int64, which it would else read one by one."""
    libc, page = _libc(), mmap.PAGESIZE  # the address is that of a page
    ordered = np.unique(rows)
    firsts, ends = ordered * row_bytes // page, -(-(ordered + 1) * row_bytes // page)
    apart = firsts[1:] > ends[:-1]
    starts, stops = firsts[np.r_[True, apart]], ends[np.r_[apart, True]]
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        libc.madvise(address + start * page, (stop - start) * page, _ADVICE["willneed"])


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc
