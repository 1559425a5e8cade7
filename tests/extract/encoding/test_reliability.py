"""Full disk, read-only folder, SIGTERM: one clear line, nothing half-written counts, and it goes on after."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uml_cache import InputError, open_features, store_info, verify
from uml_cache.cli import main
from uml_extract import extract, load_encoder, passes
from uml_manifests import NO_SPLIT, Manifest, write_manifest


def stored(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.parent.name != "journal")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


@pytest.fixture
def expected(pictures: Manifest, tmp_path: Path) -> dict[str, bytes]:
    return stored(extract(pictures, "pixels", out=tmp_path / "straight").store)


class _Disk:
    """Counts what is flushed, and refuses from a given point on as a full or read-only disk does."""

    def __init__(self, patch: pytest.MonkeyPatch, allowed: int, code: int) -> None:
        self._left, self._code, self._fsync = allowed, code, os.fsync
        patch.setattr(os, "fsync", self._flush)

    def _flush(self, handle: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError(self._code, os.strerror(self._code))
        self._fsync(handle)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_at_any_point(
    pictures: Manifest, expected: dict[str, bytes], tmp_path: Path, code: int
) -> None:
    flushes = 0
    for allowed in [*range(0, 60, 7 if code == errno.ENOSPC else 19), 10_000]:
        out = tmp_path / str(allowed)
        with pytest.MonkeyPatch.context() as patch:
            _Disk(patch, allowed, code)
            refused = None
            try:
                extract(pictures, "pixels", out=out)
            except OSError as error:
                refused = error.errno
        if refused is not None:
            assert refused == code
            flushes += 1
            for store in out.rglob("pixels.zarr"):
                assert not verify(store).bad
                if store_info(store).sealed:  # the last name's own flush was refused; the files are whole
                    assert stored(store) == expected
                else:
                    with pytest.raises(InputError, match="not finished"):
                        open_features(store)
        done = extract(pictures, "pixels", out=out)
        assert stored(done.store) == expected
        assert verify(done.store).ok
        assert not list(out.rglob("*.tmp"))
    assert flushes >= 3


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_the_command_says_it_in_one_line(
    pictures: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    data = write_manifest(pictures, tmp_path / "data")
    words = ["extract", "--encoder", "pixels", "--data", str(data), "--out", str(tmp_path / "feats")]
    with monkeypatch.context() as patch:
        code = errno.ENOSPC if how == "full" else errno.EROFS
        _Disk(patch, 40 if how == "full" else 0, code)
        with pytest.raises(SystemExit) as leaving:
            main(words)
    assert leaving.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"error: {os.strerror(code)}: {tmp_path / 'feats'}")  # and which place it is
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == 0


_SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell starts its children deaf to it
from uml_cache import cli
from uml_extract.encoding import filling
real = filling.encode_batch
filling.encode_batch = lambda *a, **k: (time.sleep(0.1), real(*a, **k))[1]
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_the_next_one_finishes_it(
    pictures: Manifest, expected: dict[str, bytes], tmp_path: Path, by: signal.Signals
) -> None:
    data = write_manifest(pictures, tmp_path / "data")
    out = tmp_path / "feats"
    words = ["extract", "--encoder", "pixels", "--data", str(data), "--out", str(out)]
    store = out / "toy" / "image" / "pixels.zarr"
    with subprocess.Popen([sys.executable, "-c", _SLOW, *words], stderr=subprocess.PIPE, text=True) as run:
        end = time.monotonic() + 60
        while not (store / "journal" / "0.json").exists():
            assert time.monotonic() < end
            time.sleep(0.005)
        run.send_signal(by)
        _, err = run.communicate(timeout=60)
    code, why = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "ended by SIGTERM")}[by]
    assert run.returncode == code
    assert [line for line in err.replace("\r", "\n").split("\n") if "it/s" not in line][-2:] == [
        f"error: {why}; run the same command again to continue",
        "",
    ]
    assert "Traceback" not in err
    assert "Warning" not in err
    assert not store_info(store).sealed
    done = extract(pictures, "pixels", out=out)
    assert done.resumed_tasks >= 1
    assert stored(done.store) == expected
    assert verify(done.store).ok


def test_ctrl_c_with_workers_is_one_line(pictures: Manifest, tmp_path: Path) -> None:
    """It reaches all processes of a terminal: the workers leave the answer to the command."""
    data = write_manifest(pictures, tmp_path / "data")
    out = tmp_path / "feats"
    words = ["extract", "--encoder", "pixels", "--data", str(data), "--out", str(out), "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", _SLOW, *words, "--quiet"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as run:  # fmt: skip
        end = time.monotonic() + 60
        while not list(out.glob("*/*/*/zarr.json")):
            assert time.monotonic() < end
            time.sleep(0.005)
        os.killpg(run.pid, signal.SIGINT)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert err.strip() == "error: interrupted; run the same command again to continue"


def test_a_sample_lost_between_planning_and_resuming_is_flagged(
    sounds: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token counts were fixed by the plan: what changed since then must not stop the resumed run."""
    from uml_extract.encoding import filling

    root = tmp_path / "sounds"
    root.mkdir()
    for source in sounds.sources:
        (root / source).write_bytes((sounds.root / source).read_bytes())
    manifest = replace(sounds, root=root)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(filling, "encode_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(manifest, "log-mel", out=tmp_path / "a", tokens=True, max_errors=1)
    (root / sounds.sources[80]).unlink()
    done = extract(manifest, "log-mel", out=tmp_path / "a", tokens=True, max_errors=1)
    features = open_features(done.store)
    assert np.flatnonzero(~features.valid).tolist() == [80]
    features.close()  # who reads a store keeps others from writing it anew
    (root / sounds.sources[80]).write_bytes((sounds.root / sounds.sources[80]).read_bytes())
    again = extract(manifest, "log-mel", out=tmp_path / "a", tokens=True, retry_failed=True)
    straight = extract(sounds, "log-mel", out=tmp_path / "b", tokens=True)
    assert again.failed == 0
    assert stored(again.store) == stored(straight.store)


def test_planning_does_not_slow_down_with_rows(texts: Manifest, tmp_path: Path) -> None:
    """1.3 million rows are planned in seconds; here a tenth of them, in CPU time."""
    count = 130_000
    manifest = replace(
        texts,
        ids=[f"n{row:08d}" for row in range(count)],
        sources=texts.sources * (count // len(texts)) + texts.sources[: count % len(texts)],
        labels=np.zeros(count, np.int32),
        splits=np.full(count, NO_SPLIT, np.uint8),
    )

    encoder = load_encoder("hashed-ngrams")
    began = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "Extraction", _stop)
        with pytest.raises(_Stop):
            extract(manifest, encoder, out=tmp_path)
    assert time.process_time() - began < 5


class _Stop(Exception):
    pass


def _stop(*_: Any, **__: Any) -> None:
    raise _Stop
