"""The storage side of Xet: a folder that hf_xet itself fills and reads when its server is called `local:///folder`.

`local://` is undocumented: tests that need it ask `supports_local_storage` and are skipped where it is gone.
"""

import struct
import time
from pathlib import Path


RECORD = 48
HAS_VERIFICATION, HAS_SHA256 = 1 << 31, 1 << 30
LAST_FILE = b"\xff" * 32


def _hex(digest: bytes) -> str:
    """Xet writes a hash as four little-endian 64-bit words."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))


class XetStorage:
    """A content-addressed store in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def connection(self) -> dict:
        """Arguments with which hf_xet reaches this store."""
        return {
            "endpoint": f"local://{self.folder}",
            "token": "xet",
            "token_expiry_unix_secs": int(time.time()) + 3600,
        }

    def find(self, sha256: str) -> str | None:
        """The Xet hash of the uploaded file that claims to have this sha256."""
        for shard in self.folder.glob("xet/xorbs/shards/*.mdb"):
            content = shard.read_bytes()
            position = RECORD
            while content[position : position + 32] != LAST_FILE:
                file_hash = content[position : position + 32]
                flags, segments = struct.unpack_from("<II", content, position + 32)
                position += RECORD * (1 + segments * (2 if flags & HAS_VERIFICATION else 1))
                if flags & HAS_SHA256:
                    if _hex(content[position : position + 32]) == sha256:
                        return _hex(file_hash)
                    position += RECORD
        return None

    def read(self, xet_hash: str, size: int) -> bytes:
        """Rebuild a file from its chunks."""
        from hf_xet import XetFileInfo, XetSession

        target = self.folder / f"read-{xet_hash}"
        with XetSession().new_file_download_group(**self.connection) as group:
            group.start_download_file(XetFileInfo(xet_hash, size), str(target))
        content = target.read_bytes()
        target.unlink()
        return content


def supports_local_storage(folder: Path) -> bool:
    """Whether the installed hf_xet stores a file in a local folder and reads it back."""
    try:
        import hf_xet
    except ImportError:
        return False
    storage = XetStorage(folder)
    content = b"probe" * 1000
    try:
        with hf_xet.XetSession().new_upload_commit(**storage.connection) as commit:
            upload = commit.start_upload_bytes(content, sha256=hf_xet.COMPUTE_SHA256)
        return storage.read(upload.result().xet_info.hash, len(content)) == content
    except Exception:  # whatever a newer hf_xet raises means the same: not supported
        return False
