"""A Hub on 127.0.0.1 that serves a folder, or fails on purpose."""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.unit.quantization.stub_server import Handler, StubServer, answering

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(StubServer):
    """Serves `folder` as `org/model`; other names are faults."""

    def __init__(self, folder: Path) -> None:
        super().__init__(_Handler)
        self.folder = folder


def serving(folder: Path) -> AbstractContextManager[Hub]:
    """The Hub, while it runs."""
    return answering(Hub(folder))


class _Handler(Handler, BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.requested.append(f"{self.command} {path}")
        if self.headers.get("Authorization") == "Bearer hf_wrongwrongwrong":
            self.send(
                401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"}
            )
        elif "org/gated" in path:
            self.send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Ask."})
        elif "org/broken" in path:
            self.send(500, b"{}")
        elif path.endswith("/no-such-branch"):
            self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif "org/model" not in path:
            self.send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in path:
            self.send(200, json.dumps(self._tree()).encode())
        elif path.startswith("/api/models/"):
            self.send(200, json.dumps(self._info()).encode())
        else:
            self._file(path.rpartition("/")[2], body=body)

    def _info(self) -> dict[str, object]:
        files = [
            {"rfilename": path.name, "size": path.stat().st_size}
            for path in self.server.folder.iterdir()
        ]
        return {"id": "org/model", "modelId": "org/model", "sha": COMMIT, "siblings": files}

    def _tree(self) -> list[dict[str, object]]:
        return [
            {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name}
            for path in self.server.folder.iterdir()
        ]

    def _file(self, name: str, *, body: bool) -> None:
        path = self.server.folder / name
        if not path.is_file():
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        size = path.stat().st_size
        headers = {"ETag": f'"{name}-{size}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(size)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2]), size - 1)
            with path.open("rb") as stream:
                stream.seek(first)
                content = stream.read(last - first + 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            self.send(206, content, headers)
        elif not body:
            self.send(200, b"", headers, length=size)
        else:
            self.send(200, path.read_bytes(), headers)
