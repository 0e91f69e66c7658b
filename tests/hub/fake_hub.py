"""As much of Hugging Face's hub as the `huggingface_hub` package needs to fetch a model."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NOTHING: Mapping[str, str] = {}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Repositories and their files; `refusals` are what others are answered.

    Attributes:
        url: Where it answers.
        fetched: Paths of files in the order in which they were fetched.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.repos: dict[str, Mapping[str, bytes]] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.fetched: list[str] = []


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that answers on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = FakeHub(f"http://127.0.0.1:{server.server_port}")
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        hub: FakeHub = self.server.hub  # type: ignore[attr-defined]
        path, _, _ = self.path.partition("?")
        parts = path.strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if repo in hub.refusals:
            status, code = hub.refusals[repo]
            self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})
            return
        files = hub.repos.get(repo)
        if files is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif parts[0] == "api" and "tree" in parts:
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": _digest(data)}
                for name, data in files.items()
            ]
            self._send(200, json.dumps(listed).encode())
        elif parts[0] == "api":
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            info = {"id": repo, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
            self._send(200, json.dumps(info).encode())
        else:
            name = "/".join(parts[4:])
            if name not in files:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            headers = {"ETag": f'"{_digest(files[name])}"', "X-Repo-Commit": COMMIT}
            if self.command == "GET":
                hub.fetched.append(name)
            self._send(200, files[name], headers)

    def _send(
        self,
        status: int,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        body: bool = True,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(data)


def _digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
