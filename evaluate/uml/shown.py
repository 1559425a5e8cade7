"""Where progress is shown: at a terminal and in a notebook; nowhere with `progress=False`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from uml_cache import QUIET, Output, Progress


def shown(progress: bool) -> Output:
    """Where the words and bars of a call go."""
    if not progress:
        return QUIET
    return _Notebook() if _in_notebook() else Output()


@dataclass(frozen=True)
class _Notebook(Output):
    """Bars in a notebook, whose standard error is no terminal."""

    @contextlib.contextmanager
    def progress(self, total: int | None, unit: str, label: str = "", initial: int = 0) -> Iterator[Progress]:
        if find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm
        else:
            from tqdm import tqdm
        with tqdm(total=total, unit=unit, desc=label, initial=initial) as bar:
            yield bar


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    found = None if shell is None else shell.get_ipython()
    return found is not None and type(found).__name__ == "ZMQInteractiveShell"
