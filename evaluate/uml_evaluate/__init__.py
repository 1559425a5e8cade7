"""What the unpaired data was worth: comparisons, intervals, figures, reports, and the demo.

What the package offers is listed in `__init__.pyi`; a name is imported when it is first used.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
