"""Features in and out: other people's files become sealed stores, and stores become such files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uml_cache.exchange.exporting import export_features
    from uml_cache.exchange.importing import import_features

_HOME = {"export_features": "exporting", "import_features": "importing"}

__all__ = ["export_features", "import_features"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
