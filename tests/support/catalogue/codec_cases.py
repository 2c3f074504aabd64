"""Z: compression and containers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import zstandard

from catalogue.base import NUM_COMPLETE, Case, text, trace, write

_ALL = NUM_COMPLETE


def _plain(rank: int = 0, world: int = 1) -> bytes:
    return text(trace(rank, world)).encode()


def _file(make: Callable[[bytes], bytes], name: str = "trace.json.gz") -> Callable[[Path], Path]:
    return lambda folder: write(folder, make(_plain()), name)


def _corrupt(data: bytes) -> bytes:
    damaged = bytearray(data)
    damaged[len(damaged) // 2] ^= 0x10
    return bytes(damaged)


def _members(data: bytes) -> bytes:
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(data[half:])


def _wrong_sum(data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data))
    packed[-8] ^= 1
    return bytes(packed)


def _spaces(data: bytes) -> bytes:
    return gzip.compress(data.replace(b"\n]", b"\n" + b" " * (64 << 20) + b"]"), 1)


def _giant_string(data: bytes) -> bytes:
    return gzip.compress(data.replace(b"aten::op2", b"x" * (20 << 20), 1), 1)


def _tar(folder: Path, *, hostile: bool) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for rank in range(2):
            _add(archive, f"traces/rank{rank}.json", _plain(rank, 2))
        if hostile:
            for name in ("../../canary.json", "/canary.json"):
                _add(archive, name, b"pwned")
            link = tarfile.TarInfo("link.json")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    return write(folder, buffer.getvalue(), "traces.tar.gz")


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _zip(folder: Path, *, hostile: bool) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for rank in range(2):
            archive.writestr(f"rank{rank}.json", _plain(rank, 2))
        if hostile:
            archive.writestr("../../canary.json", "pwned")
    data = buffer.getvalue()
    if hostile:  # the directory promises a size that the data does not have
        at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"canary"))
        at = data.rindex(b"PK\x01\x02", 0, at)
        data = data[: at + 24] + (1 << 30).to_bytes(4, "little") + data[at + 28 :]
    return write(folder, data, "traces.zip")


CASES = [
    Case("C02", "control: gzip", _file(gzip.compress), "clean"),
    Case("Z01", "gzip truncated in the middle", _file(lambda d: gzip.compress(d)[: len(gzip.compress(d)) * 6 // 10]), "load", 10,
         ("codec.truncated",)),
    Case("Z02", "gzip without its trailer", _file(lambda d: gzip.compress(d)[:-8]), "load", _ALL, ("codec.truncated",)),
    Case("Z03", "gzip with a wrong checksum", _file(_wrong_sum), "load", _ALL, ("codec.checksum",)),
    Case("Z04", "a flipped bit inside the stream", _file(lambda d: _corrupt(gzip.compress(d))), "either", 1),
    Case("Z05", "gzip of several members", _file(_members), "clean"),
    Case("Z06", "gzip named .json", _file(gzip.compress, "trace.json"), "clean"),
    Case("Z07", "plain JSON named .json.gz", _file(lambda d: d), "clean"),
    Case("Z08", "garbage after the gzip stream", _file(lambda d: gzip.compress(d) + b"garbage"), "load", _ALL, ("codec.trailing_bytes",)),
    Case("Z08z", "zero padding after the gzip stream", _file(lambda d: gzip.compress(d) + b"\0" * 999), "clean"),
    Case("Z09", "a .json.gz of zero bytes", _file(lambda _: b""), "error"),
    Case("Z10", "gzip of nothing", _file(lambda _: gzip.compress(b"")), "error"),
    Case("Z11", "64 MiB of white space in a valid document", _file(_spaces), "clean"),
    Case("Z11b", "one string of 20 MiB", _file(_giant_string), "load", _ALL - 1, ("json.damaged_events", "limit.event_bytes")),
    Case("Z12", "gzip inside gzip", _file(lambda d: gzip.compress(gzip.compress(d))), "clean"),
    Case("Z13", "zstd", _file(lambda d: zstandard.ZstdCompressor().compress(d), "trace.json.zst"), "clean"),
    Case("Z13t", "zstd truncated", _file(lambda d: zstandard.ZstdCompressor().compress(d)[:1200], "t.json"), "either", 1),
    Case("Z14", "xz", _file(lzma.compress, "trace.json.xz"), "clean"),
    Case("Z14b", "bzip2", _file(bz2.compress, "trace.json.bz2"), "clean"),
    Case("Z15", "tar.gz of two ranks", lambda f: _tar(f, hostile=False), "clean", 2 * _ALL, ranks=(0, 1)),
    Case("Z15z", "zip of two ranks", lambda f: _zip(f, hostile=False), "clean", 2 * _ALL, ranks=(0, 1)),
    Case("Z16", "tar with members that leave it", lambda f: _tar(f, hostile=True), "load", 2 * _ALL, ("codec.unsafe_member",), (0, 1)),
    Case("Z17", "zip with a member that leaves it and a lie", lambda f: _zip(f, hostile=True), "load", _ALL,
         ("codec.unsafe_member", "codec.corrupt")),
]  # fmt: skip
"""Every case of this kind."""
