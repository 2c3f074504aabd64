"""Gzip member by member (RFC 1952), with the checksum beside the data instead of in its way.

The standard decoders raise when the checksum of a member fails and keep back the bytes before it; here the deflate
stream is decoded raw, so every byte that can be decoded is delivered and the checksum is only reported.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

from traceanalyzer.traces.defects import DefectLog

try:
    from isal import isal_zlib
except ImportError:  # no wheel for this machine: the standard library decodes the same at half the speed
    isal_zlib = None

_zlib: Any = isal_zlib or zlib
_ERRORS: tuple[type[Exception], ...] = (zlib.error, _zlib.error)

_BLOCK = 1 << 15
_OUTPUT = 4 << 20
_CAREFUL_BLOCK = 1 << 10
MAGIC = b"\x1f\x8b"
_EXTRA, _NAME, _COMMENT, _HEADER_CRC = 4, 8, 16, 2


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _by_zlib(file: BinaryIO) -> Iterator[bytes]:
    """Plain bytes by the standard library, a little at a time, up to where it fails."""
    inflate = zlib.decompressobj(wbits=31)
    while block := file.read(_CAREFUL_BLOCK):
        while block:
            try:
                yield inflate.decompress(block)
            except zlib.error:
                return
            block = inflate.unused_data.lstrip(b"\0") if inflate.eof else b""
            inflate = zlib.decompressobj(wbits=31) if inflate.eof else inflate


class GzipReader:
    """Plain bytes of a gzip stream of any number of members; a damaged stream ends where it breaks."""

    __slots__ = ("_buffer", "_crc", "_delivered", "_inflate", "_log", "_over", "_ready", "_reopen", "_source")

    def __init__(self, source: _Source, log: DefectLog, reopen: Callable[[], BinaryIO] | None = None) -> None:
        self._source = source
        self._log = log
        self._buffer = b""
        self._ready = b""
        self._over = False
        self._delivered = 0
        self._reopen = reopen
        self._crc = 0
        self._inflate: Any = None
        self._start_member()

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end."""
        while not self._ready and not self._over:
            self._ready = self._advance()
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _need(self, count: int) -> bool:
        """Have `count` bytes in the buffer if the source still has them."""
        while len(self._buffer) < count:
            more = self._source.read(_BLOCK)
            if not more:
                return False
            self._buffer += more
        return True

    def _end(self, code: str | None, detail: str) -> bytes:
        self._over = True
        if code is not None:
            self._log.add(code, events=0, detail=detail)
        return b""

    def _start_member(self) -> None:
        header = self._header_length()
        if header is None:
            self._end("codec.truncated", "gzip header")
            return
        self._buffer = self._buffer[header:]
        self._inflate = _zlib.decompressobj(wbits=-15)
        self._crc = 0

    def _header_length(self) -> int | None:
        if not self._need(10):
            return None
        flags, position = self._buffer[3], 10
        if flags & _EXTRA:
            if not self._need(position + 2):
                return None
            position += 2 + int.from_bytes(self._buffer[position : position + 2], "little")
        for flag in (_NAME, _COMMENT):
            if not flags & flag:
                continue
            while (end := self._buffer.find(b"\0", position)) < 0:
                if not self._need(len(self._buffer) + 1):
                    return None
            position = end + 1
        position += 2 if flags & _HEADER_CRC else 0
        return position if self._need(position) else None

    def _advance(self) -> bytes:
        if self._inflate is None:
            return self._end(None, "")
        if self._inflate.eof:
            return self._finish_member()
        if not self._buffer and not self._need(1):
            self._end("codec.truncated", "gzip")
            return self._last_bytes()
        try:
            data: bytes = self._inflate.decompress(self._buffer, _OUTPUT)
        except _ERRORS as error:
            self._end("codec.corrupt", f"gzip: {error}")
            return self._last_bytes()
        self._buffer = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        self._crc = _zlib.crc32(data, self._crc)
        self._delivered += len(data)
        return data

    def _last_bytes(self) -> bytes:
        """What zlib gives beyond what was delivered: the fast decoder keeps back some bytes where a stream breaks."""
        if self._reopen is None or isal_zlib is None:
            return b""
        rest, seen = b"", 0
        with self._reopen() as file:
            for data in _by_zlib(file):
                seen += len(data)
                rest += data[max(0, len(data) - (seen - self._delivered)) :] if seen > self._delivered else b""
        return rest

    def _finish_member(self) -> bytes:
        """Check the trailer; go on with the next member, or end at padding or garbage."""
        if not self._need(8):
            return self._end("codec.truncated", "gzip trailer")
        if int.from_bytes(self._buffer[:4], "little") != self._crc:
            self._log.add("codec.checksum", events=0, detail="gzip")
        self._buffer = self._buffer[8:]
        while self._need(1):
            self._buffer = self._buffer.lstrip(b"\0")
            if self._buffer:
                break
        if not self._buffer:
            return self._end(None, "")
        self._need(2)
        if not self._buffer.startswith(MAGIC):
            return self._end("codec.trailing_bytes", "after the gzip stream")
        self._start_member()
        return b""
