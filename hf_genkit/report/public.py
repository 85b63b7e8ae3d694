"""What may leave this machine: texts without access tokens and without local paths."""

import os
import re
from dataclasses import fields, is_dataclass, replace
from typing import Any


TOKEN = re.compile(r"\bhf_(?:oauth_)?[A-Za-z0-9]{20,}[\w.-]*")
GIVEN_TOKEN = re.compile(rf"(?:--?[\w-]+[= ]|\w+=)?[\"']?{TOKEN.pattern}[\"']? ?")
LOCAL_PATH = re.compile(
    r"""(?<![^\s"'`=(\[{,:|>])(?:(?:file://|~\w*|\.{1,2}|[A-Za-z]:)?/|(?:\.{1,2}|[A-Za-z]:)\\)[\w.][^\s"'`,;|)\]}]*"""
)
# In quotes a path may hold spaces.
QUOTED_PATH = re.compile(r"""(?<=['"])(?:(?:~\w*|\.{1,2}|[A-Za-z]:)?/|(?:\.{1,2}|[A-Za-z]:)\\)\w[^'"\\\n]*(?=['"])""")


def public_text(text: str) -> str:
    """`text` without access tokens (and the option that held one), its local paths cut down to the last component."""
    text = GIVEN_TOKEN.sub("", text)
    for pattern in (QUOTED_PATH, LOCAL_PATH):
        text = pattern.sub(lambda path: re.split(r"[\\/]", path.group().rstrip("\\/"))[-1], text)
    return text


def public(value: Any) -> Any:
    """A report, or a part of one, with [`public_text`] in every text but the pictures' paths."""
    if isinstance(value, str):
        return os.path.basename(value) if os.path.isabs(value) and os.path.exists(value) else public_text(value)
    if isinstance(value, list | tuple):
        return type(value)(public(item) for item in value)
    if isinstance(value, dict):
        return {public(key): public(item) for key, item in value.items()}
    if is_dataclass(value):
        names = [field.name for field in fields(value) if field.name != "path"]
        return replace(value, **{name: public(getattr(value, name)) for name in names})
    return value
