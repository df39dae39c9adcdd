"""A Hub on 127.0.0.1 that serves folders as data sets, or fails on purpose."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

from tests.unit.quantization.stub_server import Handler, StubServer, answering

MAIN = "0123456789abcdef0123456789abcdef01234567"
CONVERTED = "89abcdef0123456789abcdef0123456789abcdef"


class DataHub(StubServer):
    """Serves `folder` as `org/data`, and `folder`.parquet as its branch refs/convert/parquet.

    Files in `cut` promise twice the bytes that they send.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(_Handler)
        self.folders = {MAIN: folder, CONVERTED: folder.with_suffix(".parquet")}
        self.cut: set[str] = set()


def serving(folder: Path) -> AbstractContextManager[DataHub]:
    """The Hub, while it runs."""
    return answering(DataHub(folder))


class _Handler(Handler, BaseHTTPRequestHandler):
    server: DataHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.requested.append(f"{self.command} {path}")
        if self.headers.get("Authorization") == "Bearer hf_wrongwrongwrong":
            self.send(401, b"{}", {"X-Error-Message": "Invalid credentials"})
        elif "org/gated" in path:
            self.send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Ask."})
        elif "org/broken" in path:
            self.send(500, b"{}")
        elif "org/data" not in path:
            self.send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif path.startswith("/api/datasets/"):
            self._info(path.partition("/revision/")[2])
        else:
            commit, _, name = path.partition("/resolve/")[2].partition("/")
            self._file(commit, name)

    def _info(self, revision: str) -> None:
        commit = CONVERTED if revision in ("refs/convert/parquet", CONVERTED) else MAIN
        folder = self.server.folders[commit]
        if revision not in ("", "main", MAIN) and not (commit == CONVERTED and folder.is_dir()):
            self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        files = [
            {"rfilename": path.relative_to(folder).as_posix()}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        said = {"id": "org/data", "sha": commit, "siblings": files}
        self.send(200, json.dumps(said).encode())

    def _file(self, commit: str, name: str) -> None:
        path = self.server.folders[commit] / name
        if not path.is_file():
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = path.read_bytes()
        promised = len(content) * (2 if name in self.server.cut else 1)
        headers = {"ETag": f'"{commit[:8]}{name}"', "X-Repo-Commit": commit}
        self.send(200, content, headers, length=promised)
