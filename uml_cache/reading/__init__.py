"""From a feature set to batches on a device: a `Sampler` says which rows in which order, a loader brings
them.

The batches are the same whichever loader is taken; only where the features wait in the meantime differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uml_cache.lazy import lazy_exports

if TYPE_CHECKING:
    from uml_cache.reading.batch import Batch
    from uml_cache.reading.choose import Loader, make_loader
    from uml_cache.reading.device import DeviceLoader
    from uml_cache.reading.host import HostLoader
    from uml_cache.reading.sampler import Sampler
    from uml_cache.reading.stream import StreamLoader

_HOME = {
    "Batch": "batch",
    "DeviceLoader": "device",
    "HostLoader": "host",
    "Loader": "choose",
    "Sampler": "sampler",
    "StreamLoader": "stream",
    "make_loader": "choose",
}

__all__ = ["Batch", "DeviceLoader", "HostLoader", "Loader", "Sampler", "StreamLoader", "make_loader"]

__getattr__, __dir__ = lazy_exports(__name__, _HOME)
