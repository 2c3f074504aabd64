"""The process that a command runs in: what the libraries underneath may do to it never reaches the user.

Polars ends its process where an allocation fails, and its threads print the stack of a panic. So a command runs in a child
process whose native standard error is kept apart; the parent turns what became of the child into an exit status and one line.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import os
import signal
import sys
import tempfile
from types import FrameType
from typing import BinaryIO

from traceanalyzer.cli import fail
from traceanalyzer.cli import main as run

_DIRECT = {"run", "mcp", "schema", "--help", "-h", "--version"}
"""What starts processes of its own, speaks a protocol on its streams, or cannot fail so."""
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT) if hasattr(signal, "SIGHUP") else ()
_OUT_OF_MEMORY = (b"memory allocation of", b"capacity overflow", b"std::bad_alloc", b"out of memory")
_PR_SET_PDEATHSIG = 1
_FEWER_SWEEPS = (50_000, 20, 100)
"""Of the garbage collector: importing makes many objects and no garbage; what is large is not a cycle of Python's."""


def main() -> int:
    """Run the command line in a child process and return its exit status."""
    gc.set_threshold(*_FEWER_SWEEPS)
    first = next((word for word in sys.argv[1:] if not word.startswith("-")), "--help")
    if not hasattr(os, "fork") or first in _DIRECT or os.environ.get("TRACEANALYZER_DEBUG"):
        return run()
    with tempfile.TemporaryFile() as native:
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            os._exit(_child(native, parent))
        status = _wait(child)
        return _reported(status, native)


def _child(native: BinaryIO, parent: int) -> int:
    """Run the command; its native standard error goes to a file, Python's own stays where it was."""
    try:
        os.setpgid(0, 0)  # an interrupt of the terminal goes to the parent, which passes it on once
        _end_with(parent)
        sys.stderr = io.TextIOWrapper(
            os.fdopen(os.dup(2), "wb"), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        os.dup2(native.fileno(), 2)
        return run()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - nothing may leave the child but a status
        return fail(f"internal error: {type(error).__name__}: {error}", "report this with the input", 70)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # the reader may have gone away
                stream.flush()


def _end_with(parent: int) -> None:
    """Have the kernel end this process if the parent is killed: half a command may not go on unseen (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(130)


def _wait(child: int) -> int:
    """Status of the child; signals that ask for an end are passed on to it."""

    def forward(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    while True:
        try:
            return os.waitpid(child, 0)[1]
        except InterruptedError:
            continue


def _reported(status: int, native: BinaryIO) -> int:
    """The exit status, after one error where the child did not end by itself."""
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    native.seek(0)
    said = native.read(1 << 16)
    hint = "give fewer ranks or steps (--ranks, --steps), or run it on a machine with more free memory"
    if number == signal.SIGKILL or any(mark in said for mark in _OUT_OF_MEMORY):
        return fail("not enough memory for this input", hint, 3)
    if number in _FORWARDED:
        return 128 + number
    return fail(f"internal error: ended by signal {number}", "this is a bug: run again with TRACEANALYZER_DEBUG=1", 70)
