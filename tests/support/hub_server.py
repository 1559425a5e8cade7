"""A local stand-in for the Hugging Face hub: what its library needs to make, fill and read repositories.

Repositories live in memory. A commit is made at once, as on the hub; large files go through LFS before it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import yaml

_LICENCES = {"mit", "apache-2.0", "cc-by-4.0", "other"}
_SMALL = 2000  # bytes; larger files go through LFS
_API = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(\w+)(?:/([^/]+))?)?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_LFS = re.compile(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")
Repository = tuple[str, str]  # type and name


class HubServer(ThreadingHTTPServer):
    """`commits` holds the files of each state of a repository; `private` those that were made so.

    `breaks` is asked before each request whether it fails.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[Repository, dict[str, dict[str, bytes]]] = {}
        self.private: set[Repository] = set()
        self.blobs: dict[str, bytes] = {}
        self.breaks: Callable[[str, str], bool] = lambda method, path: False
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, kind: str, name: str) -> dict[str, bytes]:
        """The files of a repository's newest state."""
        return list(self.commits[kind, name].values())[-1]

    def commit(self, repository: Repository, files: dict[str, bytes]) -> str:
        """Add a state to a repository; returns its name."""
        states = self.commits.setdefault(repository, {})
        text = f"{repository} {len(states)} {sorted(files)}"
        oid = hashlib.sha1(text.encode()).hexdigest()
        states[oid] = files
        return oid


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        return None

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        self.body = self._read()
        path = unquote(urlsplit(self.path).path)
        if self.server.breaks(method, path):
            self._json({"error": "the disk is full"}, 400)
            return
        if path == "/api/validate-yaml":
            self._validate()
        elif path == "/api/repos/create":
            self._create()
        elif found := _API.fullmatch(path):
            self._api(method, *found.groups())
        elif found := _LFS.fullmatch(path):
            self._batch()
        elif path.startswith("/blobs/"):
            oid = path.removeprefix("/blobs/")
            sound = hashlib.sha256(self.body).hexdigest() == oid
            if sound:
                self.server.blobs[oid] = self.body
            self._send(200 if sound else 400, b"")
        elif found := _FILE.fullmatch(path):
            self._file(method, *found.groups())
        else:
            self._json({"error": f"no such page: {path}"}, 404)

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _validate(self) -> None:
        text = json.loads(self.body)["content"]
        head = yaml.safe_load(text.split("---\n")[1])
        errors = []
        if "license" in head and head["license"] not in _LICENCES:
            errors.append({"message": f'"license" must be one of {sorted(_LICENCES)}'})
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _create(self) -> None:
        asked = json.loads(self.body)
        kind = asked.get("type") or "model"
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        if (kind, name) in self.server.commits:
            self._json({"error": "it exists"}, 409)
            return
        self.server.commit((kind, name), {".gitattributes": b"*.npy filter=lfs\n"})
        if asked.get("private") or asked.get("visibility") == "private":
            self.server.private.add((kind, name))
        prefix = "datasets/" if kind == "dataset" else ""
        self._json({"url": f"{self.server.url}/{prefix}{name}", "id": name})

    def _api(self, method: str, kind: str, name: str, what: str | None, revision: str | None) -> None:
        states = self.server.commits.get((kind, name))
        if states is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif what == "preupload":
            files = json.loads(self.body)["files"]
            modes = ["lfs" if one["size"] > _SMALL else "regular" for one in files]
            self._json(
                {
                    "files": [
                        {"path": one["path"], "uploadMode": mode, "shouldIgnore": False}
                        for one, mode in zip(files, modes, strict=True)
                    ]
                }
            )
        elif what == "commit":
            self._commit((kind, name))
        else:
            oid = list(states)[-1]
            siblings = [{"rfilename": path} for path in states[oid]]
            self._json({"id": name, "sha": oid, "siblings": siblings, "tags": [], "private": False})

    def _commit(self, repository: Repository) -> None:
        states = self.server.commits[repository]
        newest = list(states)[-1]
        files = dict(states[newest])
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header" and value.get("parentCommit") not in (None, newest):
                self._json({"error": "the repository changed meanwhile"}, 412)
                return
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        oid = self.server.commit(repository, files)
        kind, name = repository
        prefix = "datasets/" if kind == "dataset" else ""
        self._json({"commitUrl": f"{self.server.url}/{prefix}{name}/commit/{oid}", "commitOid": oid})

    def _batch(self) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/blobs/{one['oid']}"}}}
            for one in json.loads(self.body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _file(self, method: str, prefix: str | None, name: str, revision: str, path: str) -> None:
        states = self.server.commits.get(("dataset" if prefix else "model", name))
        if states is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return
        oid = list(states)[-1] if revision == "main" else revision
        data = states.get(oid, {}).get(path)
        if data is None:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        tag = hashlib.sha1(data).hexdigest()
        self._send(200, data, {"X-Repo-Commit": oid, "ETag": f'"{tag}"'}, empty=method == "HEAD")

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self._send(status, data, {"Content-Type": "application/json", **(headers or {})})

    def _send(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, *, empty: bool = False
    ) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if not empty and self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub on loopback, which `huggingface_hub` is pointed at, here and in processes that are started."""
    from huggingface_hub import constants

    server = HubServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")] + ["HF_HUB_OFFLINE"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
