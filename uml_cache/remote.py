"""Stores on object storage (`s3://`, `gs://`, `az://`, `memory://`) through obstore.

`RemotePath` has the part of `pathlib.Path` that this package needs. Objects appear whole or not at all; each
is created once and never replaced while it is needed: of two workers that write the same task the first one's
objects stay, and both end with the same journal record. Nothing has to be locked.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from uml_cache.errors import InputError, WorkError

# pathlib makes one slash of two: a URL that went through a `Path` is still meant as one.
_FOLDED = re.compile(r"^(s3|s3a|gs|az|abfs|abfss|memory|file):/(?!/)")
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_METADATA = "://169.254.169.254/"  # where a cloud's own machines get theirs, asked last of all
_RETRY_SECONDS = 60
_RETRY = {"max_retries": 12, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)}
_BROKEN_OFF = "error sending request"


class RemotePath:
    """An object, or the prefix of objects, at a URL."""

    def __init__(self, root: str, key: str) -> None:
        self.root = root  # scheme://bucket
        self.key = key

    def __truediv__(self, name: str | os.PathLike[str]) -> RemotePath:
        return self.joinpath(name)

    def joinpath(self, *names: str | os.PathLike[str]) -> RemotePath:
        """The place below this one."""
        parts = [self.key, *(str(name) for name in names)]
        return RemotePath(self.root, "/".join(part.strip("/") for part in parts if part.strip("/")))

    def __str__(self) -> str:
        return f"{self.root}/{self.key}"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __lt__(self, other: RemotePath) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        """The last part of the place."""
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def parent(self) -> RemotePath:
        """The place above; that of the root is the root."""
        return RemotePath(self.root, self.key.rpartition("/")[0])

    def absolute(self) -> RemotePath:
        """The same: places on object storage are never relative."""
        return self

    @property
    def objects(self) -> Any:
        """The obstore store of the bucket."""
        return _objects(self.root)

    def read_bytes(self) -> bytes:
        """The object's content; FileNotFoundError if there is none."""
        import obstore

        with _reported(self):
            return bytes(obstore.get(self.objects, self.key).bytes())

    def open(self, mode: str = "rb", buffering: int = -1) -> io.BytesIO:
        """The object's content as a stream."""
        return io.BytesIO(self.read_bytes())

    def create(self, data: bytes) -> bool:
        """Make the object unless there is one; whether it was made.

        A request that breaks off is tried again for a minute, which obstore does of itself for those that may
        be repeated without a thought. This one may have been done: then the object counts as another's.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, GenericError

        deadline = time.monotonic() + _RETRY_SECONDS
        pause = 0.1
        with _reported(self):
            while True:
                try:
                    obstore.put(self.objects, self.key, data, mode="create", use_multipart=False)
                except AlreadyExistsError:
                    return False
                except GenericError as error:
                    if _BROKEN_OFF not in str(error) or time.monotonic() + pause > deadline:
                        raise
                    time.sleep(pause)
                    pause = min(2 * pause, 5.0)
                else:
                    return True

    def stat(self) -> SimpleNamespace:
        """`st_size` of the object; FileNotFoundError if there is none."""
        import obstore

        with _reported(self):
            return SimpleNamespace(st_size=int(obstore.head(self.objects, self.key)["size"]))

    def replace(self, data: bytes) -> None:
        """Make the object anew, whatever was there."""
        import obstore

        with _reported(self):
            obstore.put(self.objects, self.key, data, use_multipart=False)

    def copy(self, to: RemotePath) -> None:
        """Have the storage copy the object to another place in the same bucket."""
        import obstore

        with _reported(self):
            obstore.copy(self.objects, self.key, to.key)

    def tag(self) -> str:
        """What the storage calls this state of the object; FileNotFoundError if there is none."""
        import obstore

        with _reported(self):
            found = obstore.head(self.objects, self.key)
        return f"{found.get('e_tag')} {found.get('version')} {found['last_modified']}"

    def exists(self) -> bool:
        """Whether there is an object, or one below this prefix."""
        with contextlib.suppress(FileNotFoundError):
            self.stat()
            return True
        return self.is_dir()

    def is_dir(self) -> bool:
        """Whether there is an object below this prefix."""
        folders, names = self.listing()
        return bool(folders or names)

    def listing(self) -> tuple[list[str], list[str]]:
        """Names of the prefixes and of the objects directly below, sorted."""
        import obstore

        with _reported(self):
            found = obstore.list_with_delimiter(self.objects, self.key or None)
        folders = sorted(str(prefix).rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"])
        return folders, sorted(str(meta["path"]).rpartition("/")[2] for meta in found["objects"])

    def states(self) -> dict[str, str]:
        """What the storage calls the state of each object below this prefix, by its key there."""
        import obstore

        with _reported(self):
            found = [meta for batch in obstore.list(self.objects, self.key) for meta in batch]
        cut = len(self.key) + 1
        return {
            str(meta["path"])[cut:]: f"{meta.get('e_tag') or meta['last_modified']} {meta['size']}"
            for meta in found
        }

    def size_below(self) -> int:
        """Bytes of all objects below this prefix."""
        import obstore

        with _reported(self):
            return sum(meta["size"] for batch in obstore.list(self.objects, self.key) for meta in batch)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        import obstore

        with _reported(self), contextlib.suppress(FileNotFoundError):
            obstore.delete(self.objects, self.key)

    def zarr_group(self) -> Any:
        """The Zarr group below this prefix, for reading."""
        import zarr
        from zarr.storage import ObjectStore

        return zarr.open_group(ObjectStore(self.objects, read_only=True), path=self.key, mode="r")


def as_path(place: str | os.PathLike[str] | RemotePath) -> Path:
    """A local path, or what behaves like one for a URL. `file://` URLs are local paths."""
    if isinstance(place, RemotePath):
        return cast(Path, place)
    text = _FOLDED.sub(r"\1://", os.fspath(place))
    if "://" not in text:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return cast(Path, RemotePath(f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")))


def is_remote(path: object) -> bool:
    """Whether `path` is one of object storage."""
    return isinstance(path, RemotePath)


def remote_names(path: object) -> list[str]:
    """Names of the objects directly below a path of object storage."""
    return cast(RemotePath, path).listing()[1]


def publish(path: RemotePath, data: bytes, *, same: bool) -> bytes:
    """Create an object, or find what another worker made of it; returns the content that is there now.

    With `same` a different content that is there already raises `WorkError`.
    """
    if path.create(data):
        return data
    there = path.read_bytes()
    if same and there != data:
        raise WorkError(
            f"{path} exists with other content: an unfinished worker read other samples; delete the object "
            "and run again"
        )
    return there


@lru_cache(maxsize=64)
def _objects(root: str) -> Any:
    from obstore.exceptions import BaseError
    from obstore.store import MemoryStore, from_url

    if root.startswith("memory://"):
        return MemoryStore()  # as long as the process lives
    options: dict[str, Any] = {"retry_config": _RETRY}
    if os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://"):
        options["client_options"] = {"allow_http": True}
    try:
        return from_url(root, **options)
    except (BaseError, ValueError) as error:
        said = _first_line(error)
        if "Account must be" in said:
            raise InputError(f"{root}: the storage account is unknown; {_CREDENTIALS['az']}") from None
        raise InputError(
            f"{root}: cannot hold stores ({said}); expected a folder, s3://BUCKET/…, gs://BUCKET/…, "
            "az://CONTAINER/… or memory://"
        ) from None


@contextlib.contextmanager
def _reported(path: RemotePath) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise WorkError(f"{path.root}: there is no such bucket; make it first") from None
        raise
    except (BaseError, OSError) as error:
        if "NoSuchBucket" in str(error):  # a listing says it in another way
            raise WorkError(f"{path.root}: there is no such bucket; make it first") from None
        if _METADATA in str(error):
            scheme = path.root.partition("://")[0]
            hint = _CREDENTIALS.get(scheme[:2], _CREDENTIALS["az"])
            raise WorkError(f"{path.root}: there are no credentials for it; {hint}") from None
        raise WorkError(
            f"{path}: object storage failed ({_first_line(error)}); run the same command again to continue"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
