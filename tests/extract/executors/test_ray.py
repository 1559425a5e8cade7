"""Ray executor: a real cluster on this machine, one of whose workers is killed while it works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uml_cache import InputError, verify
from uml_extract import extract
from uml_extract.executors import get_executor
from uml_manifests import Manifest, write_manifest

# In a process of its own: Ray leaves threads and warnings behind that are not ours to judge.
_RUN = """
import os, signal, sys, threading, time
from pathlib import Path
import ray
from uml_extract import extract
from uml_manifests import load_manifest

manifest, out = load_manifest(sys.argv[1]), Path(sys.argv[2])
store = out / "toy" / "image" / "pixels@tokens.zarr"
killed = []

def kill():
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if sum(path.stem.isdecimal() for path in store.glob("journal/*.json")) >= 1:
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if entry.read_bytes().startswith(b"ray::_run_task") and OURS in open(
                        entry.with_name("environ"), "rb"
                    ).read():
                        os.kill(int(entry.parent.name), signal.SIGKILL)
                        killed.append(entry.parent.name)
                        return
                except OSError:
                    continue
        time.sleep(0.002)

OURS = f"UML_TEST={os.getpid()}".encode()
os.environ["UML_TEST"] = str(os.getpid())
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
         runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}})
thread = threading.Thread(target=kill)
thread.start()
done = extract(manifest, "pixels", out=out, tokens=True, executor="ray", max_errors=1)
thread.join()
ray.shutdown()
print(len(killed), done.rows, done.failed, done.tasks)
"""


def test_a_cluster_that_loses_a_worker(pictures: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("ray", exc_type=ImportError)
    count = 1280  # 10 tasks
    manifest = Manifest(
        name="toy",
        modality="image",
        classes=("all",),
        root=pictures.root,
        ids=[f"s{i}" for i in range(count)],
        sources=["absent.png" if i == 700 else pictures.sources[i % 150] for i in range(count)],
        labels=np.zeros(count, np.int32),
        splits=np.full(count, 255, np.uint8),
    )
    data = write_manifest(manifest, tmp_path / "data")
    words = [sys.executable, "-c", _RUN, str(data), str(tmp_path / "a")]
    run = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "1 1280 1 10\n"
    store = tmp_path / "a" / "toy" / "image" / "pixels@tokens.zarr"
    assert verify(store).ok
    straight = extract(manifest, "pixels", out=tmp_path / "b", tokens=True).store
    for path in straight.rglob("*"):
        if path.is_file() and path.parent.name != "journal":
            assert path.read_bytes() == (store / path.relative_to(straight)).read_bytes()


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'uml-cache\[ray\]'"):
        get_executor("ray")
