"""The paper's linear theory (section 3.1, appendix C), computed: what samples of a second modality are
worth."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
