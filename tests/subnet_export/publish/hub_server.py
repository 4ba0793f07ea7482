"""A stand-in for the Hugging Face Hub on this machine: repositories of files, with commits, in memory.

It answers what ``huggingface_hub`` asks for when it creates a repository, commits files and downloads them. Uploads
are taken as regular files; those whose names end in .pt or .safetensors are listed as large files, with a SHA-256.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePath
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".pt", ".safetensors")


@dataclass
class Repository:
    """Files by name of each commit, by its hash; the last one is the newest."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)

    def commit(self, files: dict[str, bytes]) -> str:
        newest = list(self.commits.values())[-1] if self.commits else {}
        number = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[number] = newest | files
        return number

    def find(self, revision: str) -> str | None:
        if revision == "main" and self.commits:
            return list(self.commits)[-1]
        return revision if revision in self.commits else None


def git_sha1(content: bytes) -> str:
    """Return the hash that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubServer:
    """Serves ``repositories`` at ``url`` until :meth:`close`; records requests as "METHOD path"."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.tokens: set[str | None] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def do_HEAD(self) -> None:
                outer.answer(self)

            def do_POST(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self._thread = Thread(target=self.http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.requests.append(f"{request.command} {path}")
        self.tokens.add(request.headers.get("Authorization"))
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if request.command == "POST":
            self._post(request, path, body)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(request, match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(request, *match.groups())
        else:
            self._send(request, 404, {"error": f"no such path {path}"})

    def _post(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> None:
        if path == "/api/repos/create":
            if request.headers.get("Authorization") != "Bearer stand-in":
                self._send(request, 401, {"error": "Invalid username or password."})
                return
            value = json.loads(body)
            name = f"{value.get('organization') or 'owner'}/{value['name']}"
            status = 409 if name in self.repositories else 200
            private = bool(value.get("private")) or value.get("visibility") == "private"
            self.repositories.setdefault(name, Repository(private=private))
            self._send(request, status, {"url": f"{self.url}/{name}", "id": name, "name": name})
        elif path == "/api/validate-yaml":
            self._send(request, 200, {"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/.+", path):
            names = [file["path"] for file in json.loads(body)["files"]]
            answers = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for name in names]
            self._send(request, 200, {"files": answers})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/.+", path):
            lines = [json.loads(line) for line in body.splitlines() if line]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            number = self.repositories[match[1]].commit(files)
            url = f"{self.url}/{match[1]}/commit/{number}"
            self._send(request, 200, {"success": True, "commitOid": number, "commitUrl": url})
        else:
            self._send(request, 404, {"error": f"no such path {path}"})

    def _info(self, request: BaseHTTPRequestHandler, name: str, revision: str) -> None:
        repository = self.repositories.get(name)
        number = None if repository is None else repository.find(revision)
        if repository is None:
            self._send(request, 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        if number is None:
            self._send(request, 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return
        siblings: list[dict[str, Any]] = []
        for file, content in repository.commits[number].items():
            entry: dict[str, Any] = {"rfilename": file, "size": len(content), "blobId": git_sha1(content)}
            if PurePath(file).suffix in LARGE:
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        self._send(request, 200, {"id": name, "modelId": name, "sha": number, "siblings": siblings, "tags": []})

    def _file(self, request: BaseHTTPRequestHandler, name: str, revision: str, file: str) -> None:
        repository = self.repositories.get(name)
        number = None if repository is None else repository.find(revision)
        content = None if repository is None or number is None else repository.commits[number].get(file)
        if repository is None or number is None or content is None:
            self._send(request, 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": number, "ETag": f'"{git_sha1(content)}"'}
        self._send_bytes(request, 200, b"?" * len(content) if file in repository.damaged else content, headers)

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, value: Any, headers: dict[str, str] | None = None
    ) -> None:
        self._send_bytes(
            request, status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {})
        )

    def _send_bytes(
        self, request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]
    ) -> None:
        request.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)
