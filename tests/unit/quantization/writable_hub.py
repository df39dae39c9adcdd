"""A Hub on 127.0.0.1 that takes uploads, as the real one does: objects by their SHA-256 first, by
LFS, or packed in chunks by Xet, then a commit that names them. It keeps what it has got, and fails
where a test says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from tests.unit.quantization.stub_server import Handler, StubServer, answering

WRITER = "hf_writerwriterwriter"
READER = "hf_readerreaderreader"
ROLES = {WRITER: "write", READER: "read"}


@dataclass
class Repository:
    """`branches`: branch -> file name -> SHA-256 of its content."""

    private: bool
    gated: bool = False
    branches: dict[str, dict[str, str]] = field(default_factory=lambda: {"main": {}})
    messages: list[str] = field(default_factory=list)


class WritableHub(StubServer):
    """Repositories by name; `objects` is the content that arrived, by SHA-256."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.xorbs: list[bytes] = []  # Xet's packs of chunks, as they came
        self.shards: list[bytes] = []  # which chunks make which file
        self.sizes: dict[str, int] = {}  # of files that came by Xet, by SHA-256
        self.tokens: set[str] = set()  # that were presented
        self.owners = {"me"}  # in whose name the writer may make repositories
        self.on_put: Callable[[int], None] = lambda _: None  # told how many came before
        self.puts = 0

    def content(self, repo: str, branch: str = "main") -> dict[str, bytes]:
        """The files of a branch."""
        files = self.repositories[repo].branches[branch]
        return {name: self.objects[digest] for name, digest in files.items()}


def serving() -> AbstractContextManager[WritableHub]:
    """The Hub, while it runs."""
    return answering(WritableHub())


class _Handler(Handler, BaseHTTPRequestHandler):
    server: WritableHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path.partition("?")[0])
        self.server.requested.append(f"{self.command} {path}")
        if path.startswith("/objects/"):  # a signed address: no token goes there
            self._take(path.removeprefix("/objects/"), body)
            return
        if path.startswith("/cas/"):  # with a token of its own
            self._chunks(path, body)
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.tokens.add(token)
        if token not in ROLES:
            message = f"Invalid credentials in Authorization header: {token}"
            self._send(401, {"error": message}, {"X-Error-Message": message})
        elif path == "/api/whoami-v2":
            role = ROLES[token]
            self._send(200, {"name": "me", "type": "user", "auth": {"accessToken": {"role": role}}})
        elif path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        else:
            self._repository(path, body)

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] not in self.server.owners:
            self._send(403, {"error": "You don't have the rights to create a model here."})
            return
        if name in self.server.repositories:
            self._send(409, {"error": "You already created this model repo"})
            return
        private = wanted.get("private", wanted.get("visibility") == "private")
        self.server.repositories[name] = Repository(private)
        self._send(200, {"url": f"{self.server.url}/{name}", "name": name})

    def _chunks(self, path: str, body: bytes) -> None:
        """Xet's store, in the first version of its protocol; it knows no chunk yet."""
        if path.startswith("/cas/v1/xorbs/"):
            self.server.xorbs.append(body)
            self._send(200, {"was_inserted": True})
        elif path.startswith(("/cas/v1/shards", "/cas/shards")):
            self.server.shards.append(body)
            self._send(200, {"result": 1})
        else:
            self._send(404, {})

    def _repository(self, path: str, body: bytes) -> None:
        found = re.fullmatch(r"(?:/api/models)?/([\w.-]+/[\w-]+)(?:\.git)?(/.*)?", path)
        repository = self.server.repositories.get(found[1]) if found else None
        if found is None or repository is None:
            self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        if repository.gated:
            self._send(403, {"error": "Ask."}, {"X-Error-Code": "GatedRepo"})
            return
        action, _, rest = (found[2] or "/").lstrip("/").partition("/")
        if action in ("", "revision"):
            self._info(found[1], repository, rest or "main")
        elif action == "refs":
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": _commit(files)}
                for name, files in repository.branches.items()
            ]
            self._send(200, {"branches": branches, "converts": [], "tags": []})
        elif action == "branch":
            repository.branches[rest] = dict(repository.branches["main"])
            self._send(200, {})
        elif rest and rest not in repository.branches and action in ("preupload", "commit"):
            self._send(404, {"error": "no"}, {"X-Error-Code": "RevisionNotFound"})
        elif action == "preupload":
            self._send(200, {"files": [_mode(file) for file in json.loads(body)["files"]]})
        elif action == "xet-write-token":
            exp = int(time.time()) + 3600
            answer = {"accessToken": "for-chunks", "exp": exp, "casUrl": f"{self.server.url}/cas"}
            self._send(200, answer)
        elif action == "info":  # /info/lfs/objects/batch
            self._batch(json.loads(body))
        elif action == "commit":
            self._commit(found[1], repository, rest, body)
        else:
            self._send(404, {"error": f"no such thing: {path}"})

    def _info(self, name: str, repository: Repository, branch: str) -> None:
        files = repository.branches[branch]
        siblings = [
            {"rfilename": file, "size": self._size(digest), "blobId": digest[:40]}
            for file, digest in files.items()
        ]
        self._send(
            200,
            {
                "id": name,
                "modelId": name,
                "private": repository.private,
                "sha": _commit(files),
                "siblings": siblings,
            },
        )

    def _size(self, digest: str) -> int:
        content = self.server.objects.get(digest)
        return self.server.sizes[digest] if content is None else len(content)

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = []
        for one in wanted["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.server.objects:
                answer["actions"] = {"upload": {"href": f"{self.server.url}/objects/{one['oid']}"}}
            objects.append(answer)
        self._send(200, {"transfer": "basic", "objects": objects})

    def _take(self, oid: str, body: bytes) -> None:
        before, self.server.puts = self.server.puts, self.server.puts + 1
        self.server.on_put(before)
        if hashlib.sha256(body).hexdigest() != oid:
            self._send(400, {"error": "the content is another"})
            return
        self.server.objects[oid] = body
        self._send(200, {})

    def _commit(self, name: str, repository: Repository, branch: str, body: bytes) -> None:
        files = dict(repository.branches[branch])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                repository.messages.append(value["summary"])
            elif entry["key"] == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = hashlib.sha256(content).hexdigest()
                self.server.objects[files[value["path"]]] = content
            elif value.get("oid") in self.server.objects or self.server.shards:
                files[value["path"]] = value["oid"]
                self.server.sizes[value["oid"]] = value["size"]
            else:
                self._send(400, {"error": f"{value['path']} was not uploaded"})
                return
        repository.branches[branch] = files
        oid = _commit(files)
        self._send(200, {"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "commitOid": oid})

    def _send(
        self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        self.send(status, json.dumps(content).encode(), headers)


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    large = file["path"].endswith(".safetensors")
    mode = "lfs" if large else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}


def _commit(files: dict[str, str]) -> str:
    return hashlib.sha1(json.dumps(files, sort_keys=True).encode()).hexdigest()  # noqa: S324
