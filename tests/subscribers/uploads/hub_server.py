"""A server on loopback that speaks as much of the Hub's HTTP API as huggingface_hub asks for.

Repositories with branches and commits, small files in the commit itself, large ones by LFS. It
notes what it is asked, and can be slow, say no, or die and come back.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

TOKEN = "hf_loopbackSecretToken"
OWNER = "somebody"
LARGE = (".safetensors", ".distcp", ".metadata", ".bin")


class Asked(NamedTuple):
    method: str
    path: str


class Blob(NamedTuple):
    content: bytes
    is_large: bool

    @property
    def oid(self) -> str:
        """By which an upload sees whether a file has changed."""
        if self.is_large:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Commit:
    oid: str
    message: str
    files: dict[str, Blob]


@dataclass
class Repository:
    private: bool = False
    tags: list[str] = field(default_factory=list)
    branches: dict[str, list[Commit]] = field(default_factory=dict)


class HubServer:
    """Its repositories outlive `stop`, after which it may be started again at the same port."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        """Large files that have arrived, by their SHA-256, committed or not."""
        self.writers = {TOKEN: OWNER}
        self.requests: list[Asked] = []
        self.before: Callable[[Asked], None] = lambda asked: None
        """Called before an answer; the connection is cut if it raises `OSError`."""
        self.loses_answers = 0
        """How many commits are made and not answered."""
        self.refuses = "nothing"
        """The end of a path to which the answer is no."""
        self.lock = threading.Lock()
        self.connections: set[socket.socket] = set()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Handler", (Answers,), {"hub": self})
        self._server = Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()

    def stop(self) -> None:
        """Takes no more connections, and cuts those that there are."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        for connection in list(self.connections):
            cut(connection)

    def make(self, repo_id: str, *branches: str) -> None:
        """A repository with one file, as the Hub makes them."""
        first = Commit("0" * 40, "initial commit", {".gitattributes": Blob(b"* text\n", False)})
        made = {branch: [first] for branch in ("main", *branches)}
        self.repositories[repo_id] = Repository(branches=made)

    def commits(self, name: str, branch: str = "main") -> list[Commit]:
        """Those of one of the owner's repositories after the first."""
        return self.repositories[f"{OWNER}/{name}"].branches[branch][1:]

    def files(self, name: str, branch: str = "main", under: str = "") -> dict[str, bytes]:
        """The files at the head of a branch, as a reader finds them."""
        head = self.repositories[f"{OWNER}/{name}"].branches[branch][-1]
        return {
            path.removeprefix(under): blob.content
            for path, blob in head.files.items()
            if path.startswith(under) and path != ".gitattributes"
        }

    def sent(self) -> list[str]:
        """The large files that were sent, by their SHA-256, in order."""
        return [a.path.rpartition("/")[2] for a in list(self.requests) if a.method == "PUT"]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no news."""


class Refusal(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.code, self.message = status, code, message


class Answers(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Not here."""

    def setup(self) -> None:
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.hub.connections.discard(self.connection)
        super().finish()

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = Asked(self.command, path)
        self.hub.requests.append(asked)
        try:
            self.hub.before(asked)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        except OSError:
            cut(self.connection)
            self.close_connection = True
            return
        try:
            answer = self._answer(path.strip("/").split("/"), body)
        except Refusal as refusal:
            self._send(
                json.dumps({"error": refusal.message}).encode(),
                refusal.status,
                {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message},
            )
        else:
            if "/commit/" in path and self.hub.loses_answers:
                self.hub.loses_answers -= 1
                cut(self.connection)
                self.close_connection = True
                return
            if isinstance(answer, Blob):
                headers = {"ETag": f'"{answer.oid}"', "X-Repo-Commit": "1" * 40}
                self._send(answer.content, 200, headers)
            else:
                self._send(json.dumps(answer).encode(), 200, {"Content-Type": "application/json"})

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815 - the base's names

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
        except OSError:
            self.close_connection = True

    def _answer(self, parts: list[str], body: bytes) -> Any:
        hub = self.hub
        if parts[0] == "lfs":
            if hashlib.sha256(body).hexdigest() != parts[1]:
                raise Refusal(400, message="another sum")
            hub.stored[parts[1]] = body
            return {}
        user = hub.writers.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        if user is None:
            raise Refusal(401, message="Invalid username or password.")
        if self.path.endswith(hub.refuses):
            raise Refusal(403, message="not today")
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body), user)
        if parts == ["api", "validate-yaml"]:
            return {"errors": [], "warnings": []}
        if parts[2:5] == ["info", "lfs", "objects"]:
            return self._batch(json.loads(body))
        if parts[:2] == ["api", "models"]:
            return self._of_repository("/".join(parts[2:4]), parts[4:], body, user)
        if parts[2] == "resolve":
            commit = self._head("/".join(parts[:2]), parts[3])
            if "/".join(parts[4:]) not in commit.files:
                raise Refusal(404, "EntryNotFound")
            return commit.files["/".join(parts[4:])]
        raise Refusal(404)

    def _create(self, wanted: dict[str, Any], user: str) -> Any:
        owner = wanted.get("organization") or user
        if owner != user:
            raise Refusal(403, message=f"You don't have the rights under the namespace {owner}")
        repo_id = f"{owner}/{wanted['name']}"
        with self.hub.lock:
            if repo_id not in self.hub.repositories:
                self.hub.make(repo_id)
                self.hub.repositories[repo_id].private = wanted.get("visibility") == "private"
        return {"url": f"{self.hub.url}/{repo_id}"}

    def _batch(self, wanted: dict[str, Any]) -> Any:
        objects = []
        for one in wanted["objects"]:
            found: dict[str, Any] = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.stored:
                found["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            objects.append(found)
        return {"transfer": "basic", "objects": objects}

    def _head(self, repo_id: str, branch: str) -> Commit:
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            raise Refusal(404, "RepoNotFound")
        if branch not in repository.branches:
            raise Refusal(404, "RevisionNotFound")
        return repository.branches[branch][-1]

    def _of_repository(self, repo_id: str, parts: list[str], body: bytes, user: str) -> Any:
        what, rest = (parts or ["revision"])[0], parts[1:]
        if what == "auth-check":
            self._head(repo_id, "main")
            if repo_id.split("/", maxsplit=1)[0] != user:
                raise Refusal(403, message="read only")
            return {}
        head = self._head(repo_id, rest[0] if rest else "main")
        if what == "revision":
            tags = self.hub.repositories[repo_id].tags
            return {"id": repo_id, "sha": head.oid, "tags": tags}
        if what == "preupload":
            return {"files": [_mode(one, head) for one in json.loads(body)["files"]]}
        if what == "tree":
            return _tree(head, "/".join(rest[1:]), "recursive=true" in self.path.lower())
        if what == "commit":
            return self._commit(repo_id, rest[0], [json.loads(line) for line in body.splitlines()])
        raise Refusal(404)

    def _commit(self, repo_id: str, branch: str, lines: list[dict[str, Any]]) -> Any:
        with self.hub.lock:
            commits = self.hub.repositories[repo_id].branches[branch]
            files = dict(commits[-1].files)
            for line in lines[1:]:
                kind, value = line["key"], line["value"]
                if kind == "file":
                    files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
                elif kind == "lfsFile":
                    files[value["path"]] = Blob(self.hub.stored[value["oid"]], True)
                elif kind == "deletedFile":
                    del files[value["path"]]
                else:
                    start = value["path"].rstrip("/") + "/"
                    files = {path: b for path, b in files.items() if not path.startswith(start)}
            names = json.dumps([len(commits), repo_id, sorted(files)])
            oid = hashlib.sha1(names.encode()).hexdigest()
            commits.append(Commit(oid, lines[0]["value"]["summary"], files))
        return {"commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}", "commitOid": oid}


def _mode(one: dict[str, Any], head: Commit) -> dict[str, Any]:
    large = one["path"].endswith(LARGE) or "tfevents" in one["path"]
    known = head.files.get(one["path"])
    return {
        "path": one["path"],
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": False,
        **({"oid": known.oid} if known else {}),
    }


def _tree(head: Commit, under: str, recursive: bool) -> list[dict[str, Any]]:
    start = f"{under}/" if under else ""
    found: dict[str, dict[str, Any]] = {}
    for path, blob in head.files.items():
        if not path.startswith(start):
            continue
        inner = path.removeprefix(start)
        if "/" in inner and not recursive:
            folder = start + inner.partition("/")[0]
            found[folder] = {"type": "directory", "path": folder, "oid": "2" * 40}
        else:
            found[path] = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.oid}
    if under and not found:
        raise Refusal(404, "EntryNotFound")
    return list(found.values())


def cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
