"""Which files at a path are flight-recorder dumps or records of NCCL Inspector: their content tells, not their names.

Only regular files are opened, and links to elsewhere are not followed.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

from traceanalyzer.regular_file import open_regular
from traceanalyzer.traces.nccl.inspector import FLAT, RECORD
from traceanalyzer.traces.nccl.plain_pickle import MAX_PROTOCOL

_EXTENSION = re.compile(r"(?i)\.(log|jsonl|json|pickle|pkl|bin|dump)(\.gz)?$")
_BY_RANK = re.compile(r"(?i)(rank|trace|dump)[_-]?\d+(\.(pickle|pkl))?$")
_HEAD = 1 << 16
_MAX_FILES = 20_000
_PICKLE = 0x80
_KEYS = (b"collective_seq_id", b"profiling_name", b"pg_config")
"""Names of fields that only a dump has; one is in the first bytes of every one."""


def candidates(path: Path) -> Iterator[Path]:
    """Regular files at `path` that may be dumps or records, in the order of their names."""
    if not path.is_dir():
        named = [path] if os.path.lexists(path) else [Path(f) for f in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - the pattern may be absolute
        yield from (file for file in named if file.is_file())
        return
    seen = 0
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            seen += 1
            if seen > _MAX_FILES:
                return
            if _may_be(name) and stat.S_ISREG(file.lstat().st_mode):
                yield file


def _may_be(name: str) -> bool:
    return bool(_EXTENSION.search(name)) or "." not in name or name[-1:].isdigit()


def kind_of(file: Path) -> str | None:
    """`flight` or `inspector`, by the first bytes; None for anything else."""
    try:
        with open_regular(file) as stream:
            head = stream.read(_HEAD)
        if head[:2] == b"\x1f\x8b":
            head = zlib.decompressobj(31).decompress(head, _HEAD)
    except (OSError, zlib.error):
        return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if len(head) > 1 and head[0] == _PICKLE and head[1] <= MAX_PROTOCOL:
        dump = any(key in head for key in _KEYS) or (b"entries" in head and b"version" in head)
        return "flight" if dump or _BY_RANK.search(file.name) else None
    as_text = head.decode("utf-8", "replace")
    if RECORD.search(as_text) and (b"_perf" in head or b"inspector" in head):
        return "inspector"
    if FLAT.search(as_text) and b'"traceEvents"' not in head:
        return "inspector"
    listed = b'"entries"' in text and (b'"pg_config"' in text or b'"version"' in text)
    return "flight" if text[:1] == b"{" and (b'"collective_seq_id"' in text or listed) else None
