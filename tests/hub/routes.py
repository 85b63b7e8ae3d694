"""The Hub's routes: each function answers one method and path for a `LocalHub`.

A route's path is a regular expression over the still quoted path of the request; its named groups arrive, unquoted, as
arguments. `{repo}` stands for the repository, which arrives as a `Repository` that the caller may see.
"""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from .metadata import read_metadata
from .repository import LFS_SUFFIXES, LFS_THRESHOLD, Commit, File, HubError, Repository


TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SDKS = ("gradio", "docker", "static")
REPO_ID = r"(?P<repo_id>[\w.-]+/[\w.-]+|[\w.-]+)"
API_REPO = rf"/api/(?P<kind>models|datasets|spaces)/{REPO_ID}"
GIT_REPO = rf"/(?:(?P<kind>datasets|spaces)/)?{REPO_ID}"


@dataclass
class Request:
    """A request whose token has been checked: `role` is "write", "read" or None."""

    query: dict[str, list[str]]
    body: bytes
    role: str | None

    @property
    def json(self) -> dict:
        return json.loads(self.body)


@dataclass
class Response:
    """Bytes are sent as they are, anything else as JSON."""

    data: dict | list | bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else json.dumps(self.data).encode()


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern
    access: str
    answer: Callable[..., Response]


ROUTES: list[Route] = []


def route(method: str, path: str, access: str = "read"):
    """Register a route. `access`: "read" (no token needed for public repositories), "write", "token" (any valid token)
    or "signed" (the path must carry the hub's signature and no token)."""

    def register(answer):
        ROUTES.append(Route(method, re.compile(path), access, answer))
        return answer

    return register


# Account and repositories


@route("GET", "/api/whoami-v2", access="token")
def whoami(hub, request):
    token = {"role": request.role, "displayName": request.role}
    return Response({"type": "user", "name": hub.user, "orgs": [], "auth": {"accessToken": token}})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub, request):
    _, errors, warnings = read_metadata(request.json["content"])
    data = {"errors": [{"message": error} for error in errors], "warnings": [{"message": text} for text in warnings]}
    return Response(data, 400 if errors else 200)


@route("POST", "/api/repos/create", access="write")
def create_repo(hub, request):
    namespace = request.json["organization"] or hub.user
    if request.json.get("type") == "space" and request.json.get("sdk") not in SDKS:
        raise HubError(400, f"A Space needs one of the SDKs {', '.join(SDKS)}")
    if namespace != hub.user:
        raise HubError(403, f"You don't have the rights to create a repository under the namespace {namespace}")
    repo = Repository(
        f"{namespace}/{request.json['name']}",
        request.json.get("type", "model"),
        private=request.json.get("visibility") == "private",
    )
    existing = hub.repositories.setdefault((repo.type, repo.id), repo)
    data = {"url": f"{hub.endpoint}/{repo.url_path}"}
    if existing is not repo:
        return Response({"error": f"You already created this {repo.type} repo", **data}, 409)
    return Response(data)


@route("DELETE", "/api/repos/delete", access="write")
def delete_repo(hub, request):
    repo_id = f"{request.json['organization'] or hub.user}/{request.json['name']}"
    repo = hub.find_repository(request.json.get("type", "model"), repo_id, request.role)
    del hub.repositories[repo.type, repo.id]
    return Response()


@route("GET", rf"{API_REPO}(?:/revision/(?P<revision>[^/]+))?")
def repo_info(hub, request, repo, revision="main"):
    commit = repo.resolve(revision)
    card = commit.files.get("README.md", File(b"")).content.decode()
    metadata, _, _ = read_metadata(card)
    dates = {"createdAt": commit.history()[-1].date, "lastModified": commit.date}
    data = {"id": repo.id, "author": hub.user, "sha": commit.id, "private": repo.private, "gated": False, **dates}
    data |= {"tags": metadata.get("tags", []), "cardData": metadata, "siblings": []}
    data |= {key: metadata[key] for key in ("library_name", "pipeline_tag", "model-index") if key in metadata}
    for path, file in commit.files.items():
        sibling = {"rfilename": path, "size": len(file.content), "blobId": file.oid}
        if file.lfs:
            sibling["lfs"] = {"size": len(file.content), "sha256": file.sha256, "pointerSize": len(file.git_content)}
        data["siblings"].append(sibling)
    return Response(data)


@route("GET", rf"{API_REPO}/refs")
def refs(hub, request, repo):
    def listing(kind, names):
        return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": commit.id} for n, commit in names.items()]

    data = {"branches": listing("heads", repo.branches), "tags": listing("tags", repo.tags), "converts": []}
    return Response(data)


@route("POST", rf"{API_REPO}/branch/(?P<branch>[^/]+)", access="write")
def create_branch(hub, request, repo, branch):
    if branch in repo.branches:
        raise HubError(409, f"Reference already exists: refs/heads/{branch}")
    repo.branches[branch] = repo.resolve(request.json.get("startingPoint", "main"))
    return Response({}, 201)


@route("POST", rf"{API_REPO}/tag/(?P<revision>[^/]+)", access="write")
def create_tag(hub, request, repo, revision):
    tag = request.json["tag"]
    if tag in repo.tags:
        raise HubError(409, f"Tag reference exists already: refs/tags/{tag}")
    repo.tags[tag] = repo.resolve(revision)
    return Response({}, 201)


@route("DELETE", rf"{API_REPO}/(?P<kind_of_ref>branch|tag)/(?P<name>[^/]+)", access="write")
def delete_ref(hub, request, repo, kind_of_ref, name):
    names = {"branch": repo.branches, "tag": repo.tags}[kind_of_ref]
    if names.pop(name, None) is None:
        raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return Response({})


@route("GET", rf"{API_REPO}/commits/(?P<revision>[^/]+)")
def commits(hub, request, repo, revision):
    return Response(
        [
            {"id": c.id, "title": c.message, "message": c.description, "authors": [{"user": hub.user}], "date": c.date}
            for c in repo.resolve(revision).history()
        ]
    )


# Reading files


@route("GET", rf"{API_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
def tree(hub, request, repo, revision, folder=""):
    entries = repo.resolve(revision).entries(folder, recursive=request.query.get("recursive") == ["true"])
    if folder and not entries:
        raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    return Response(entries)


@route("POST", rf"{API_REPO}/paths-info/(?P<revision>[^/]+)")
def paths_info(hub, request, repo, revision):
    wanted = parse_qs(request.body.decode()).get("paths", [])
    return Response([entry for entry in repo.resolve(revision).entries() if entry["path"] in wanted])


@route("GET", rf"{GIT_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def resolve(hub, request, repo, revision, path):
    commit = repo.resolve(revision)
    headers = {"X-Repo-Commit": commit.id}
    if path not in commit.files:
        raise HubError(404, "Entry not found", "EntryNotFound", **headers)
    file = commit.files[path]
    if not file.lfs:
        return Response(file.content, headers={**headers, "ETag": f'"{file.etag}"'})
    if file.xet_hash:
        token = f"{hub.endpoint}/{repo.api_path}/xet-read-token/{commit.id}"
        headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{token}>; rel="xet-auth"'}
    headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
    return Response(status=302, headers={**headers, "Location": hub.storage_url(repo, file.sha256)})


@route("GET", "/storage/(?P<repo_type>[^/]+)/(?P<repo_id>[^/]+/[^/]+)/(?P<sha256>[^/]+)", access="signed")
def download(hub, request, repo_type, repo_id, sha256):
    return Response(hub.repositories[repo_type, repo_id].lfs[sha256])


# Writing files


@route("POST", rf"{API_REPO}/preupload/(?P<revision>[^/]+)", access="write")
def preupload(hub, request, repo, revision):
    present = repo.resolve(revision).files
    answers = []
    for file in request.json["files"]:
        binary = b"\0" in base64.b64decode(file["sample"])
        lfs = binary or file["path"].endswith(LFS_SUFFIXES) or file["size"] >= LFS_THRESHOLD
        answer = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
        if file["path"] in present:
            answer["oid"] = present[file["path"]].etag
        answers.append(answer)
    return Response({"files": answers})


@route("POST", rf"{GIT_REPO}\.git/info/lfs/objects/batch", access="write")
def lfs_batch(hub, request, repo):
    answers = []
    for wanted in request.json["objects"]:
        answer = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in repo.lfs:
            verify = f"{hub.endpoint}/{repo.url_path}.git/info/lfs/verify"
            answer["actions"] = {
                "upload": {"href": hub.storage_url(repo, wanted["oid"])},
                "verify": {"href": verify},
            }
        answers.append(answer)
    return Response({"transfer": "basic", "objects": answers})


@route("PUT", "/storage/(?P<repo_type>[^/]+)/(?P<repo_id>[^/]+/[^/]+)/(?P<sha256>[^/]+)", access="signed")
def upload(hub, request, repo_type, repo_id, sha256):
    if File(request.body).sha256 != sha256:
        raise HubError(400, f"The content of the upload does not have the sha256 {sha256}")
    hub.repositories[repo_type, repo_id].lfs[sha256] = request.body
    return Response()


@route("POST", rf"{GIT_REPO}\.git/info/lfs/verify", access="write")
def lfs_verify(hub, request, repo):
    stored_file(hub, repo, request.json["oid"], request.json["size"])
    return Response({})


@route("GET", rf"{API_REPO}/xet-(?P<use>read|write)-token/(?P<revision>[^/]+)")
def xet_token(hub, request, repo, use, revision):
    if use == "write":
        hub.require_write(request.role)
    connection = hub.xet.connection
    url, token, expiry = connection["endpoint"], connection["token"], connection["token_expiry_unix_secs"]
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expiry)}
    return Response({"casUrl": url, "accessToken": token, "exp": expiry}, headers=headers)


@route("POST", rf"{API_REPO}/commit/(?P<branch>[^/]+)", access="write")
def commit(hub, request, repo, branch):
    if "create_pr" in request.query:
        raise HubError(400, "Pull requests are not served here")
    if branch not in repo.branches:
        raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    head = repo.branches[branch]
    header, *operations = (json.loads(line) for line in request.body.splitlines())
    header = header["value"]
    if header.get("parentCommit", head.id) != head.id:
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = apply(hub, repo, head, operations)
    if files.get("README.md") != head.files.get("README.md"):
        metadata, errors, _ = read_metadata(files.get("README.md", File(b"")).content.decode())
        errors += space_errors(metadata) if repo.type == "space" else []
        if errors:
            raise HubError(400, "Invalid metadata in README.md: " + "; ".join(errors))
    new = repo.commit(branch, files, header["summary"], header["description"])
    url = f"{hub.endpoint}/{repo.url_path}/commit/{new.id}"
    return Response({"success": True, "commitOid": new.id, "commitUrl": url, "hookOutput": ""})


def space_errors(metadata: dict) -> list[str]:
    """What the Hub refuses in the card of a Space."""
    errors = [
        f'"{key}" must be one of {", ".join(COLORS)}'
        for key in ("colorFrom", "colorTo")
        if metadata.get(key) not in COLORS
    ]
    if metadata.get("sdk") not in SDKS:
        errors.append(f'"sdk" must be one of {", ".join(SDKS)}')
    return errors


def apply(hub, repo: Repository, head: Commit, operations: list[dict]) -> dict[str, File]:
    """The files of `head` after the operations of a commit."""
    files = dict(head.files)
    for operation in operations:
        value = operation["value"]
        path = value["path"]
        if operation["key"] == "file":
            files[path] = File(base64.b64decode(value["content"]))
        elif operation["key"] == "lfsFile":
            files[path] = stored_file(hub, repo, value["oid"], value.get("size"))
        else:
            folder = path.rstrip("/") + "/"
            gone = [p for p in files if p == path or (operation["key"] == "deletedFolder" and p.startswith(folder))]
            if not gone:
                raise HubError(404, f"A file with the name {path} does not exist", "EntryNotFound")
            files = {p: file for p, file in files.items() if p not in gone}
    return files


def stored_file(hub, repo: Repository, sha256: str, size: int | None) -> File:
    """The uploaded file with this sha256, from LFS or from Xet, checked against its size and content."""
    xet_hash = hub.xet.find(sha256)
    if xet_hash and sha256 not in repo.lfs:
        content = hub.xet.read(xet_hash, size)
    elif sha256 in repo.lfs:
        content = repo.lfs[sha256]
    else:
        raise HubError(400, f"LFS object {sha256} was never uploaded")
    file = File(content, lfs=True, xet_hash=xet_hash)
    if file.sha256 != sha256 or size not in (None, len(content)):
        raise HubError(400, f"LFS object {sha256} has another sha256 or size than announced")
    repo.lfs[sha256] = content
    return file
