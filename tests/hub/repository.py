"""What the local Hub stores: immutable commits of files, and the branches and tags that point at them."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property


LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".npy", ".npz", ".parquet", ".arrow", ".zip", ".png")
LFS_THRESHOLD = 10 * 2**20
"""Files of at least this many bytes go to LFS whatever their name."""
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


class HubError(Exception):
    """An answer other than success; `code` becomes the X-Error-Code header that the client turns into exceptions."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


@dataclass(frozen=True)
class File:
    """One version of a file; LFS and Xet files have a pointer in git and are addressed by their sha256."""

    content: bytes = field(repr=False)
    lfs: bool = False
    xet_hash: str | None = None

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def git_content(self) -> bytes:
        if not self.lfs:
            return self.content
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        return pointer.encode()

    @cached_property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.git_content) + self.git_content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def entry(self, path: str) -> dict:
        """The file as tree and paths-info list it."""
        entry = {"type": "file", "path": path, "oid": self.oid, "size": len(self.content)}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.git_content)}
        if self.xet_hash:
            entry["xetHash"] = self.xet_hash
        return entry


@dataclass(frozen=True)
class Commit:
    """A snapshot: all files of the repository as of this commit."""

    message: str
    files: dict[str, File] = field(repr=False)
    description: str = ""
    parent: "Commit | None" = field(default=None, repr=False)
    id: str = field(default_factory=lambda: secrets.token_hex(20))
    date: str = field(default_factory=lambda: datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

    @property
    def paths(self) -> list[str]:
        """Paths that this commit added, changed or deleted."""
        before = self.parent.files if self.parent else {}
        return sorted(path for path in before | self.files if before.get(path) != self.files.get(path))

    def history(self) -> "list[Commit]":
        """This commit and its ancestors, newest first."""
        return [self, *(self.parent.history() if self.parent else [])]

    def entries(self, folder: str = "", recursive: bool = True) -> list[dict]:
        """Files and folders below `folder`, sorted by path."""
        prefix = f"{folder}/" if folder else ""
        entries = {}
        for path, file in self.files.items():
            if not path.startswith(prefix):
                continue
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                directory = prefix + "/".join(parts[:depth])
                oid = hashlib.sha1(f"{self.id}:{directory}".encode()).hexdigest()
                entries[directory] = {"type": "directory", "path": directory, "oid": oid, "size": 0}
            if recursive or len(parts) == 1:
                entries[path] = file.entry(path)
        return [entries[path] for path in sorted(entries)]


class Repository:
    """A model, dataset or Space repository; like the Hub's, it begins with a commit of `.gitattributes`."""

    def __init__(self, repo_id: str, repo_type: str, private: bool):
        self.id = repo_id
        self.type = repo_type
        self.private = private
        first = Commit("initial commit", {".gitattributes": File(GITATTRIBUTES)})
        self.commits = {first.id: first}
        self.branches = {"main": first}
        self.tags: dict[str, Commit] = {}
        self.lfs: dict[str, bytes] = {}

    @property
    def url_path(self) -> str:
        return self.id if self.type == "model" else f"{self.type}s/{self.id}"

    @property
    def api_path(self) -> str:
        return f"api/{self.type}s/{self.id}"

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a full commit id names."""
        for names in (self.branches, self.tags, self.commits):
            if revision in names:
                return names[revision]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def commit(self, branch: str, files: dict[str, File], message: str, description: str = "") -> Commit:
        commit = Commit(message, files, description, parent=self.branches[branch])
        self.commits[commit.id] = self.branches[branch] = commit
        return commit
