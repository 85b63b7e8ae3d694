"""A local Hub that huggingface_hub's own client talks to over HTTP through `HF_ENDPOINT`.

It serves model, data set and Space repositories as the Hub does: tokens, private repositories, immutable commits, branches
and tags, uploads over LFS and over Xet, and files of LFS size from another host than the API's. It keeps everything in
memory and a temporary folder, records every request, and can die in the middle of chosen ones.
"""

import hmac
import secrets
import socket
import sys
import tempfile
import threading
import traceback
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from . import jobs  # noqa: F401
from .repository import Commit, HubError, Repository
from .routes import ROUTES, TYPES, Request, Response, Route
from .xet import XetStorage


@dataclass
class Record:
    """One request as it arrived; `status` stays None where the connection was dropped."""

    method: str
    path: str
    authenticated: bool
    status: int | None = None


@dataclass
class Fault:
    method: str | None
    path_contains: str
    times: float
    applied: bool


class LocalHub:
    """A Hub on 127.0.0.1, on a free port.

    Attributes:
        endpoint (`str`): value for `HF_ENDPOINT`.
        user (`str`): owner of all repositories.
        write_token (`str`): token with which everything is allowed.
        read_token (`str`): token that sees private repositories and writes nothing.
        requests (`list[Record]`): every request since the last `reset()`: method, path without query, whether it
            carried a valid token, and the status it was answered with.
        repositories (`dict[tuple[str, str], Repository]`): by type ("model", "dataset" or "space") and id.
        buckets (`dict[str, dict[str, str]]`): by id, the Xet hash of each file.
        jobs (`list[dict]`): what each job was started with.
    """

    user = "tester"

    def __init__(self):
        self.write_token = f"hf_write{secrets.token_hex(13)}"
        self.read_token = f"hf_read{secrets.token_hex(13)}"
        self.port = 0
        self.lock = threading.Lock()
        self._secret = secrets.token_bytes()
        self._folder = tempfile.TemporaryDirectory(prefix="local-hub-")
        self.reset()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "LocalHub":
        """Listen; after a `stop()`, on the same port and with the same repositories."""
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.hub = self
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Drop all connections and refuse new ones."""
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Forget repositories, uploads, requests and faults."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.buckets: dict[str, dict[str, str]] = {}
        self.jobs: list[dict] = []
        self.requests: list[Record] = []
        self.faults: list[Fault] = []
        self.xet = XetStorage(Path(tempfile.mkdtemp(dir=self._folder.name)))

    def die_on(self, method: str | None = None, path_contains: str = "", times: float = 1, applied: bool = False):
        """Drop the connection during the next `times` requests that match (`math.inf`: until `reset()`).

        By default the server dies with half of the request read and without an answer. With `applied=True` it dies
        after having done what was asked, with half of the answer sent.
        """
        self.faults.append(Fault(method, path_contains, times, applied))

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """Contents by path at a branch, tag or commit id."""
        commit = self.repositories[repo_type, repo_id].resolve(revision)
        return {path: file.content for path, file in commit.files.items()}

    def commits(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> list[Commit]:
        """Commits, newest first, each with `id`, `message`, `description`, `paths` (changed) and `files` (all). The
        last one, "initial commit", is made by the Hub itself and holds `.gitattributes`."""
        return self.repositories[repo_type, repo_id].resolve(revision).history()

    def take_fault(self, record: Record) -> Fault | None:
        """The fault that this request runs into; it is used up once more."""
        for fault in self.faults:
            if fault.times > 0 and fault.method in (None, record.method) and fault.path_contains in record.path:
                fault.times -= 1
                return fault
        return None

    def answer(self, route: Route, request: Request, arguments: dict[str, str]) -> Response:
        """Check what the route demands of its caller and run it."""
        if route.access == "token" and request.role is None:
            raise HubError(401, "Invalid username or password.")
        if route.access == "write":
            self.require_write(request.role)
        if route.access != "signed" and "repo_id" in arguments:
            repo_type = TYPES[arguments.pop("kind", "models")]
            arguments["repo"] = self.find_repository(repo_type, arguments.pop("repo_id"), request.role)
        return route.answer(self, request, **arguments)

    def require_write(self, role: str | None) -> None:
        if role is None:
            raise HubError(401, "Invalid username or password.")
        if role != "write":
            raise HubError(403, "Forbidden: you must use a write token.")

    def find_repository(self, repo_type: str, repo_id: str, role: str | None) -> Repository:
        """The repository, as far as it exists for a caller with this role."""
        repo = self.repositories.get((repo_type, repo_id))
        if repo is None or (repo.private and role is None):
            raise HubError(404, "Repository not found", "RepoNotFound")
        return repo

    def role(self, authorization: str | None) -> str | None:
        """What the token in an Authorization header may do."""
        if authorization is None:
            return None
        roles = {f"Bearer {self.write_token}": "write", f"Bearer {self.read_token}": "read"}
        if authorization not in roles:
            raise HubError(401, "Invalid credentials in Authorization header")
        return roles[authorization]

    def storage_url(self, repo: Repository, sha256: str) -> str:
        """Where a large file is uploaded to and downloaded from: another host, to which no token must be sent."""
        path = f"/storage/{repo.type}/{repo.id}/{sha256}"
        return f"http://localhost:{self.port}{path}?signature={self.sign(path)}"

    def sign(self, path: str) -> str:
        return hmac.digest(self._secret, path.encode(), "sha256").hex()


class _Server(ThreadingHTTPServer):
    """Keeps its open connections, so that closing the server closes them too."""

    hub: LocalHub
    daemon_threads = True

    def __init__(self, *args):
        super().__init__(*args)
        self.connections: set[socket.socket] = set()

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """Silent about dropped connections, which tests ask for."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def server_close(self):
        super().server_close()
        for connection in list(self.connections):
            self.shutdown_request(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *args):
        """Silent: `LocalHub.requests` is the log."""

    def handle_request(self):
        hub = self.server.hub
        url = urlsplit(self.path)
        record = Record(self.command, url.path, authenticated=False)
        hub.requests.append(record)
        fault = hub.take_fault(record)
        if fault and not fault.applied:
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            return self.drop()
        body = self.read_body()
        try:
            response = self.respond(record, parse_qs(url.query), body)
        except HubError as error:
            headers = {"X-Error-Message": " ".join(str(error).split()), **error.headers}
            if error.code:
                headers["X-Error-Code"] = error.code
            response = Response({"error": str(error)}, error.status, headers)
        except Exception:  # 501, because the client tries again for half a minute after a 500
            response = Response({"error": traceback.format_exc()}, 501)
        if not fault:
            record.status = response.status
        self.send(response, dying=fault is not None)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    def respond(self, record: Record, query: dict[str, list[str]], body: bytes) -> Response:
        hub = self.server.hub
        authorization = self.headers.get("Authorization")
        method = "GET" if record.method == "HEAD" else record.method
        for route in ROUTES:
            match = route.pattern.fullmatch(record.path)
            if route.method == method and match:
                break
        else:
            raise HubError(404, f"No route for {method} {record.path}")
        if route.access == "signed":
            if authorization is not None or query.get("signature") != [hub.sign(record.path)]:
                raise HubError(400, "Storage takes the signature of its address, and no token")
            role = None
        else:
            role = hub.role(authorization)
            record.authenticated = role is not None
        arguments = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
        with hub.lock:
            response = hub.answer(route, Request(query, body, role), arguments)
        return self.cut(response) if "Range" in self.headers and response.status == 200 else response

    def cut(self, response: Response) -> Response:
        """The bytes that a Range header asks for."""
        start, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        part = response.body[int(start) : int(last) + 1 if last else None]
        span = f"bytes {start}-{int(start) + len(part) - 1}/{len(response.body)}"
        return Response(part, 206, {**response.headers, "Content-Range": span})

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def send(self, response: Response, dying: bool) -> None:
        body = response.body
        headers = {**response.headers, "Content-Length": str(len(body))}
        head = f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        answer = head.encode("latin-1", "replace") + (b"" if self.command == "HEAD" else body)
        self.wfile.write(answer[: len(answer) // 2] if dying else answer)
        if dying:
            self.drop()

    def drop(self) -> None:
        """Close the connection under the client's hands."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
