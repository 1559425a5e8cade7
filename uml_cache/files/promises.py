"""What a file's header promises, compared with the file's size before any memory is taken for it."""

from __future__ import annotations

from uml_cache.errors import InputError
from uml_cache.machine import memory_bytes

_FREE = 1 << 26  # bytes; nobody is hurt by so much
_MOST_PACKED = 1100  # times: deflate, the usual packing, gets to 1032 on zeros


def check_promise(where: str, promised: int, there: int) -> None:
    """Raise `InputError` where `there` bytes cannot hold the `promised` ones, packed or not."""
    if promised > max(_FREE, there * _MOST_PACKED):
        raise InputError(
            f"{where}: its header announces {size_text(promised)}, the file has {size_text(there)}; it is "
            "damaged"
        )


def check_memory(where: str, needed: int) -> None:
    """Raise `InputError` where something that has to be in memory whole takes more than the machine has."""
    if needed > max(_FREE, memory_bytes()):
        raise InputError(
            f"{where}: takes {size_text(needed)} of memory, and this machine has {size_text(memory_bytes())}"
        )


def size_text(count: int) -> str:
    """`3.2 MB`."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
