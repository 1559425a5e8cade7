"""What a process may rely on: forked children."""

from __future__ import annotations

import gc
import os
from pathlib import Path

from uml_cache import fork


class _WithThreads:
    """As an ONNX session: part of a cycle, and its end is not to be lived through in a forked child."""

    def __init__(self, ends: Path) -> None:
        self.ends, self.itself, self.owner = ends, self, os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.owner:
            self.ends.touch()


def test_a_forked_child_collects_nothing_of_its_parent(tmp_path: Path) -> None:
    gc.disable()
    try:
        _WithThreads(tmp_path / "parents")  # garbage at once, since it points to itself
        child = fork()
        if child == 0:
            _WithThreads(tmp_path / "childs").itself.owner = -1
            gc.collect()
            os._exit(0)
    finally:
        gc.enable()
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / "childs").exists()  # it does collect
    assert not (tmp_path / "parents").exists()
