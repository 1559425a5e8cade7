"""Intervals that were drawn once, remembered in the user's cache folder.

The same scores always have the same interval, and drawing it is most of what a report of many runs takes.
A line of the file holds one: its key, what was found, and a checksum of both. A damaged line is as good as
none.

Shapes: S draws (seeds), N test samples.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uml_evaluate.comparing.statistics import (
    LEVEL,
    REPLICATES,
    Interval,
    generator_for,
    paired_difference,
)

_MOST_BYTES = 20_000_000  # some 100,000 intervals; a fuller file is begun anew

Found = tuple[float, float, float, float]
"""A difference, the lower and upper bound of its interval, and the reach of its rows."""


def scored_difference(a_sn: NDArray[np.generic], b_sn: NDArray[np.generic]) -> Interval:
    """`paired_difference` of scores (S, N), bool or of any numeric type, drawn at most once.

    The scores themselves begin its generator.

    So the same comparison has the same interval under whatever heading it stands.

    Raises:
        ValueError: as `paired_difference`.
    """
    kind = np.int64 if a_sn.dtype.kind in "bi" else np.float64
    scores = sha256(np.stack([a_sn, b_sn]).astype(kind).tobytes()).hexdigest()
    # numpy may change its generators' streams from one version to the next.
    key = sha256(
        f"{kind.__name__} {a_sn.shape} {scores} {REPLICATES} {LEVEL} {np.__version__}".encode()
    ).hexdigest()
    known = known_intervals()
    if (found := known.get(key)) is not None:
        delta, low, high, reach = found
        return Interval(delta, low, high, len(a_sn), reach)
    interval = paired_difference(a_sn, b_sn, rng=generator_for("paired", a_sn.shape, scores))
    if interval.low is not None and interval.high is not None:
        known.add(key, (interval.delta, interval.low, interval.high, interval.rows_reach))
    return interval


class KnownIntervals:
    """What was found for each key; shared by all threads of a process and by all processes of a user.

    Args:
        file: where it is kept; None: only in this process.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known: dict[str, Found] | None = None

    def get(self, key: str) -> Found | None:
        """What was found for a key, None if nothing is known."""
        with self._lock:
            if self._known is None:
                self._known = self._load()
            return self._known.get(key)

    def add(self, key: str, found: Found) -> None:
        """Remember what was found; a folder that cannot be written costs the time of the next draw."""
        content = json.dumps([key, *found])
        line = f"{sha256(content.encode()).hexdigest()[:16]} {content}\n".encode()
        with self._lock:
            self._known = {**self._load()} if self._known is None else self._known
            self._known[key] = found
            if self._file is None:
                return
            with contextlib.suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                handle = os.open(self._file, flags, 0o600)
                try:
                    if os.fstat(handle).st_size > _MOST_BYTES:
                        os.ftruncate(handle, 0)
                    os.write(handle, line)  # at once, so that lines of several processes never mix
                finally:
                    os.close(handle)

    def _load(self) -> dict[str, Found]:
        known: dict[str, Found] = {}
        if self._file is None:
            return known
        with contextlib.suppress(OSError):
            for line in self._file.read_bytes().splitlines():
                check, _, content = line.partition(b" ")
                if check == sha256(content).hexdigest()[:16].encode():
                    key, delta, low, high, reach = json.loads(content)
                    known[key] = (delta, low, high, reach)
        return known


def known_intervals() -> KnownIntervals:
    """Those of this user, one object for each place."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # there is no home
        return _PLACES.setdefault(None, KnownIntervals(None))
    file = home / "uml-cache" / "intervals.txt"
    return _PLACES.setdefault(file, KnownIntervals(file))


_PLACES: dict[Path | None, KnownIntervals] = {}
