"""What a process may rely on: forked children, and signals while processes are started."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from uml_cache import deaf_to_interrupts, fork


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


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_processes_are_started(which: signal.Signals) -> None:
    """The kernel may give it to another thread, whose mask is its own; Python raises in the main one."""

    def answer(number: int, frame: object) -> None:
        raise InterruptedError(number)

    reached = []

    def start() -> None:
        with deaf_to_interrupts():
            os.kill(os.getpid(), which)
            time.sleep(0.05)  # the other thread gets it, and Python answers between two steps of this one
            reached.append(which)

    ends = threading.Event()
    other = threading.Thread(target=ends.wait)
    other.start()
    before = signal.signal(which, answer)
    try:
        with pytest.raises(InterruptedError):
            start()
        assert reached == [which]
        assert signal.getsignal(which) is answer
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(which, before)
        ends.set()
        other.join()
