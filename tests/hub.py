"""A stand-in for the Hugging Face Hub on a loopback port: the routes that huggingface_hub and
datasets call to make, fill and read small repositories, in the Hub's layout.

It stores whole commits in memory. It is not the Hub: it knows no permissions, no Xet transfers and
no limits, and it takes every file in the commit itself or, as the Hub does with safetensors,
through Git LFS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

KINDS = {"models": "", "datasets": "datasets/"}


@dataclass
class HubRepository:
    """Commits, oldest first: files by path; and branches and tags by name."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        before = self.commits[self.names["main"]] if "main" in self.names else {}
        whole = {**before, **files}
        digest = hashlib.sha1(repr((len(self.commits), sorted(whole.items()))).encode())
        self.names["main"] = digest.hexdigest()
        self.commits[self.names["main"]] = whole
        return self.names["main"]

    def resolve(self, revision: str) -> str | None:
        commit = self.names.get(revision, revision)
        return commit if commit in self.commits else None


class LocalHub:
    """Repositories by kind and name, such as ("models", "org/name").

    Attributes:
        requests: method and path of every request.
        tokens: the tokens that were sent.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], HubRepository] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.tokens: set[str] = set()
        self.url = ""

    def add(self, kind: str, name: str, files: dict[str, bytes]) -> str:
        return self.repositories.setdefault((kind, name), HubRepository()).commit(files)


@contextmanager
def running_hub() -> Iterator[LocalHub]:
    """A hub on a free loopback port, until the block ends."""
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._read()
        self._get(head=False)

    def do_HEAD(self) -> None:
        self._read()
        self._get(head=True)

    def do_POST(self) -> None:
        body = self._read()
        path = unquote(urlsplit(self.path).path)
        if path == "/api/repos/create":
            asked = json.loads(body)
            kind = f"{asked.get('type', 'model')}s"
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            made = HubRepository(
                private=asked.get("visibility") == "private" or bool(asked.get("private"))
            )
            made.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
            if (kind, name) in self.hub.repositories:
                self._json({"error": "You already created this repo"}, 409)
                return
            self.hub.repositories[kind, name] = made
            self._json({"url": f"{self.hub.url}/{KINDS[kind]}{name}", "name": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif path.endswith("/objects/batch"):
            self._lfs_batch(json.loads(body))
        elif match := re.fullmatch(r"/api/(\w+)/([\w.-]+/[\w.-]+)/preupload/(.+)", path):
            files = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            self._json(
                {
                    "files": [
                        {
                            "path": one["path"],
                            "uploadMode": modes[one["path"].endswith(".safetensors")],
                            "shouldIgnore": False,
                        }
                        for one in files
                    ]
                }
            )
        elif match := re.fullmatch(r"/api/(\w+)/([\w.-]+/[\w.-]+)/commit/(.+)", path):
            self._commit(match[1], match[2], body)
        else:
            self._json({"error": f"no route {path}"}, 404)

    def do_PUT(self) -> None:
        body = self._read()
        self.hub.uploads[hashlib.sha256(body).hexdigest()] = body
        self._answer(b"", 200, {})

    def _lfs_batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}}
            for one in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, kind: str, name: str, body: bytes) -> None:
        files: dict[str, bytes] = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        commit = self.hub.repositories[kind, name].commit(files)
        url = f"{self.hub.url}/{KINDS[kind]}{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _get(self, head: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/(models|datasets)/([\w.-]+/[\w.-]+)(?:/(.*))?", path):
            self._api(match[1], match[2], match[3] or "")
        elif match := re.fullmatch(r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            kind = "datasets" if match[1] else "models"
            self._file(kind, match[2], match[3], match[4], head)
        else:
            self._json({"error": "Not Found"}, 404)

    def _found(self, kind: str, name: str, revision: str) -> tuple[HubRepository, str] | None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return None
        commit = repository.resolve(revision)
        if commit is None:
            codes = {"X-Error-Code": "RevisionNotFound"}
            self._json({"error": f"Invalid rev id: {revision}"}, 404, codes)
            return None
        return repository, commit

    def _api(self, kind: str, name: str, rest: str) -> None:
        verb, _, tail = rest.partition("/")
        revision, _, folder = tail.partition("/")
        found = self._found(kind, name, revision or "main")
        if found is None:
            return
        repository, commit = found
        files = repository.commits[commit]
        if verb in ("", "revision"):
            siblings = [{"rfilename": path} for path in files]
            about = {"id": name, "sha": commit, "private": repository.private, "tags": []}
            self._json({**about, "siblings": siblings, "downloads": 0, "likes": 0})
        elif verb == "tree":
            self._json([_entry(path, files[path]) for path in files if path.startswith(folder)])
        else:
            self._json({"error": "Not Found"}, 404)

    def _file(self, kind: str, name: str, revision: str, path: str, head: bool) -> None:
        found = self._found(kind, name, revision)
        if found is None:
            return
        repository, commit = found
        content = repository.commits[commit].get(path)
        if content is None:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        self._answer(content, 200, headers, head=head)

    def _read(self) -> bytes:
        self.hub.requests.append(f"{self.command} {self.path}")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.tokens |= {token} - {""}
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        head = self.command == "HEAD"
        self._answer(json.dumps(value).encode(), status, kind | (headers or {}), head=head)

    def _answer(
        self, content: bytes, status: int, headers: dict[str, str], head: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not head:
            self.wfile.write(content)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}
