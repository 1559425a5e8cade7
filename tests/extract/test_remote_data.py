"""`--data s3://…`: class folders on object storage give the store that the folder itself gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3_server import S3Server, s3_server
from uml_cache import InputError, RemotePath, WorkError, open_features
from uml_extract import Encoded, extract, extract_together, load_encoder
from uml_manifests import Manifest, resolve_data
from uml_manifests.manifest.fetched import Fetched

pytestmark = pytest.mark.filterwarnings("ignore")  # moto's and boto's own


@pytest.fixture
def folder(tmp_path: Path, pictures: Manifest) -> Path:
    """`photos/train|test/even|odd/…`, with an object in no class, a hidden one, and a thumbnail."""
    root = tmp_path / "photos"
    for row in range(len(pictures)):
        part = "test" if row % 5 == 0 else "train"
        file = root / part / ("odd" if row % 2 else "even") / f"{row:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pictures.path(row).read_bytes())
    picture = pictures.path(0).read_bytes()
    for odd in ("loose.png", "train/odd/.hidden.png", "train/odd/@eaDir/small.png", "train/odd/notes.txt"):
        (root / odd).parent.mkdir(exist_ok=True)
        (root / odd).write_bytes(picture)
    return root


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    import boto3

    with s3_server(monkeypatch, bucket="lab") as found:
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{found.port}")
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                client.upload_file(str(file), "lab", f"a/photos/{file.relative_to(folder).as_posix()}")
        yield found


def _same(far: Any, near: Any) -> None:
    one, other = open_features(far.store), open_features(near.store)
    assert list(one.id) == list(other.id)
    np.testing.assert_array_equal(one.pooled, other.pooled)
    np.testing.assert_array_equal(one.label, other.label)
    np.testing.assert_array_equal(one.split, other.split)


def test_a_bucket_is_the_folder_and_stops_in_mid_read(server: S3Server, folder: Path, tmp_path: Path) -> None:
    near, far = resolve_data(folder), resolve_data("s3://lab/a/photos")
    assert (far.name, far.classes, far.ids) == ("photos", near.classes, near.ids)
    assert sorted(far.left_out) == sorted(near.left_out)
    assert far.remarks == near.remarks
    names = ["pixels", "hog-color"]

    class Stopping:
        """After some batches the server goes away for a second."""

        left = 3

        def __init__(self) -> None:
            self._encoder = load_encoder("pixels")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._encoder, name)

        def encode(self, batch: Any, *, tokens: bool = False) -> Encoded:
            self.left -= 1
            if not self.left:
                server.stop()
                threading.Thread(target=lambda: (time.sleep(1), server.start())).start()
            return self._encoder.encode(batch, tokens=tokens)

    stopping: Any = Stopping()
    together = extract_together(far, [stopping, "hog-color"], out=tmp_path / "far", batch_size=8)
    assert stopping.left < 0
    for one, name in zip(together, names, strict=True):
        assert one.failed == 0
        _same(one, extract(near, name, out=tmp_path / "near", batch_size=8))
    again = extract(resolve_data("s3://lab/a/photos"), "pixels", out=tmp_path / "far")
    assert again.resumed_tasks == again.tasks == 3


def test_workers_trials_and_lost_objects(server: S3Server, folder: Path, tmp_path: Path) -> None:
    far = resolve_data("s3://lab/a/photos")
    RemotePath("s3://lab", f"a/photos/{far.ids[7]}").unlink()
    done = extract(far, "pixels", out=tmp_path / "far", max_errors=1, workers=2)
    assert [(one.id, one.reason) for one in done.unreadable] == [(far.ids[7], "no such object")]
    trial = extract(far.trial(10), "pixels", out=tmp_path / "far", max_errors=0)
    assert trial.rows == 10
    changed = RemotePath("s3://lab", f"a/photos/{far.ids[8]}")
    changed.replace(changed.read_bytes() + b"\0")
    same = extract(resolve_data("s3://lab/a/photos"), "pixels", out=tmp_path / "far")
    assert same.grew is not None
    # The object is another one, and shows the same picture; the one that is gone is kept, unreadable.
    assert (same.grew.changed, same.grew.missing, same.store) == (0, 1, done.store)
    changed.replace(RemotePath("s3://lab", f"a/photos/{far.ids[9]}").read_bytes())
    other = extract(resolve_data("s3://lab/a/photos"), "pixels", out=tmp_path / "far")
    assert other.grew is not None
    assert (other.grew.changed, other.store.name) == (1, "pixels~2.zarr")


def test_what_is_wrong_is_one_line(server: S3Server) -> None:
    with pytest.raises(InputError, match="s3://lab/nowhere: nothing is there"):
        resolve_data("s3://lab/nowhere")
    with pytest.raises(InputError, match="a folder of class folders is read"):
        resolve_data("s3://lab/a/photos/loose.png")
    with pytest.raises(InputError, match="no audio files in its 2 class folders"):
        resolve_data("s3://lab/a/photos", modality="audio")
    with pytest.raises(WorkError, match="there is no such bucket"):
        resolve_data("s3://other/photos")


def test_who_jumps_leaves_nothing_behind() -> None:
    """Ranks take every second task: what was fetched ahead of a jump does not stay in memory."""
    place = RemotePath("memory://jumps", "x")
    names = [f"{row}.png" for row in range(1000)]
    for row in range(1000):
        place.joinpath(names[row]).create(b"%d" % row)
    held = Fetched(place, names)
    for start in range(0, 1000, 200):
        for row in range(start, start + 100):
            assert held[row] == b"%d" % row
        assert len(held._waiting) <= 96
    assert held.some([5, 3])[1] == b"3"


def test_sounds_need_their_lengths_for_tokens(sounds: Manifest, tmp_path: Path) -> None:
    place = RemotePath("memory://sounds", tmp_path.name)
    for row in range(10):
        place.joinpath(f"{'odd' if row % 2 else 'even'}/{row}.wav").create(sounds.path(row).read_bytes())
    far = resolve_data(str(place))
    assert extract(far, "log-mel", out=tmp_path).failed == 0
    with pytest.raises(InputError, match="copy the sounds to a local disk"):
        extract(far, "log-mel", out=tmp_path, tokens=True)
