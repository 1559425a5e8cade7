"""Commands in forked processes: quick to start, killed at any moment, and what came of them.

The process that forks must not train itself: threads do not survive a fork.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_WATCHED = ("replace", "fsync", "mkdir", "unlink", "rename")  # what leaves something on a disk


@dataclass(frozen=True)
class Said:
    """How a command ended (a killed one with the negative signal), what it said, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float
    calls: int = 0


def load() -> None:
    """Import what commands import, so that each one starts at once."""
    import matplotlib.backends.backend_agg  # noqa: F401
    import safetensors.torch  # noqa: F401
    import sklearn.discriminant_analysis
    import sklearn.linear_model  # noqa: F401
    import sympy  # noqa: F401
    import torch  # noqa: F401
    import zarr  # noqa: F401

    import uml_evaluate
    import uml_evaluate.commands.eval_command
    import uml_evaluate.report.html
    import uml_train
    import uml_train.commands

    for package in (uml_train, uml_evaluate):
        for name in package.__all__:
            getattr(package, name)


def run(
    words: Sequence[object], cwd: Path, *, after: float | None = None, at_call: int | None = None
) -> Said:
    """Run a `uml` command in a child process.

    Args:
        after: seconds after which it is killed.
        at_call: it is killed at so many-th call that leaves something on a disk.
    """
    logs = [cwd / name for name in (".said-out", ".said-err", ".calls")]
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(words, cwd, logs, at_call)
    if after is None:
        _, status = os.waitpid(child, 0)
    else:
        status = _killed(child, began + after)
    out, err, calls = (log.read_text() if log.exists() else "" for log in logs)
    for log in logs:
        log.unlink(missing_ok=True)
    code = os.waitstatus_to_exitcode(status)
    return Said(code, out, err, time.monotonic() - began, int(calls or 0))


def killed_somewhere(words: Sequence[object], cwd: Path, whole: Said, rng: random.Random) -> Said:
    """Run a command and kill it, in every second case just before it leaves something on a disk.

    Args:
        whole: the command run to its end.
    """
    if rng.random() < 0.5:
        return run(words, cwd, at_call=rng.randrange(max(1, whole.calls)))
    return run(words, cwd, after=rng.uniform(0, whole.seconds))


def _killed(child: int, at: float) -> int:
    while time.monotonic() < at:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _child(words: Sequence[object], cwd: Path, logs: Sequence[Path], at_call: int | None) -> None:
    code = 99
    try:
        os.setpgid(0, 0)
        os.chdir(cwd)
        for descriptor, log in zip((1, 2), logs, strict=False):
            os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
        calls = _count(at_call)
        from uml_cache.cli import main

        try:
            main([str(word) for word in words])
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        logs[2].write_text(str(calls()))
    finally:
        import sys

        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _count(at_call: int | None) -> Callable[[], int]:
    """Count calls that leave something on a disk, and die before the one that is named."""
    count = 0

    def watched(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            if count == at_call:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return function(*arguments, **options)

        return call

    for name in _WATCHED:
        setattr(os, name, watched(getattr(os, name)))
    return lambda: count
