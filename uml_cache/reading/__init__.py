"""From a feature set to batches on a device: a `Sampler` says which rows in which order, a loader brings
them.

The batches are the same whichever loader is taken; only where the features wait in the meantime differs.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
