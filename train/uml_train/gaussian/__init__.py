"""The paper's Gaussian experiment (E.14): data and networks. `uml reproduce gaussian` runs it."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
