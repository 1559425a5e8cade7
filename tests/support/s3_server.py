"""An S3 server on loopback, by moto."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class S3Server:
    """moto's S3 on loopback. Its buckets live in this process: they outlast a stop and a start."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.start()

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()

    def stop(self) -> None:
        self.server.stop()


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch, *, bucket: str) -> Iterator[S3Server]:
    """A server with one empty bucket, which uml's object storage is pointed at; skips without moto."""
    pytest.importorskip("moto.server", reason="needs moto[server]")
    import boto3

    from uml_cache.remote import _objects

    server = S3Server()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    reset = urllib.request.Request(f"http://127.0.0.1:{server.port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}").create_bucket(Bucket=bucket)
    _objects.cache_clear()
    yield server
    server.stop()
    _objects.cache_clear()
