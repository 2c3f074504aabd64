"""Codecs against the standard library: every byte that it can decode is delivered."""

from __future__ import annotations

import gzip
import io
import random
import zlib
from pathlib import Path

import pytest
from catalogue.base import text, trace

from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.input.codecs import open_plain

PLAIN = "".join(text(trace(rank)) for rank in range(8)).encode()
PACKED = gzip.compress(PLAIN)


def read(content: bytes) -> tuple[bytes, set[str]]:
    log = DefectLog("x")
    stream = open_plain(io.BytesIO(content), log, reopen=lambda: io.BytesIO(content))
    parts: list[bytes] = []
    while data := stream.read(1 << 16):
        parts.append(data)
    return b"".join(parts), {row["code"] for row in log.rows()}


def test_gzip_cut_at_every_byte_gives_what_zlib_gives() -> None:
    for cut in range(20, len(PACKED)):
        expected = zlib.decompressobj(31).decompress(PACKED[:cut])
        assert read(PACKED[:cut]) == (expected, {"codec.truncated"}), cut


def test_flipped_bits_deliver_what_comes_before_them() -> None:
    rng = random.Random(2)  # noqa: S311 - places to damage, no secret
    for _ in range(100):
        at = rng.randrange(20, len(PACKED) - 8)
        damaged = bytearray(PACKED)
        damaged[at] ^= 1 << rng.randrange(8)
        sound = zlib.decompressobj(31).decompress(PACKED[: max(at - 1024, 20)])
        found, codes = read(bytes(damaged))
        assert found.startswith(sound)
        assert codes


@pytest.mark.parametrize("flags", [4, 8, 16, 4 | 8 | 16])
def test_optional_header_fields(flags: int) -> None:
    header = bytes([31, 139, 8, flags, 0, 0, 0, 0, 0, 3])
    extra = (
        (b"\5\0hello" if flags & 4 else b"") + (b"name\0" if flags & 8 else b"") + (b"note\0" if flags & 16 else b"")
    )
    assert read(header + extra + PACKED[10:]) == (PLAIN, set())


def test_small_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(PACKED + PACKED)
    with path.open("rb") as file:
        stream = open_plain(file, DefectLog("x"))
        parts = []
        while data := stream.read(777):
            parts.append(data)
    assert b"".join(parts) == PLAIN + PLAIN
