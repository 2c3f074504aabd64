"""What can go wrong, by cause; each cause knows its exit status.

An error is one line saying what is wrong (with the file and the place) and one line saying what to do.
The command line prints both and returns `exit_status`; a traceback is a bug.
"""

from __future__ import annotations

from typing import ClassVar


class TraceAnalyzerError(Exception):
    """Base of every error this package raises on purpose."""

    exit_status: ClassVar[int] = 70

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[TraceAnalyzerError], tuple[str, str]]:
        """Rebuilt from both lines: errors travel from worker processes."""
        return type(self), (self.message, self.hint)


class GateError(TraceAnalyzerError):
    """A gate or check did not hold, or data was lost under `--strict`."""

    exit_status = 1


class UsageError(TraceAnalyzerError):
    """The command or its options make no sense together."""

    exit_status = 2


class InputError(TraceAnalyzerError):
    """The input cannot be used: unreadable, unsafe or over a limit."""

    exit_status = 3


class NoTracesError(InputError):
    """Nothing at a path is a trace."""


class OutputError(TraceAnalyzerError):
    """The output could not be written whole; nothing partial is left."""

    exit_status = 4


class JobError(TraceAnalyzerError):
    """A launched training job failed."""

    exit_status = 5


class DomainError(TraceAnalyzerError, ValueError):
    """A formula was asked for a point outside the domain in which it holds."""

    exit_status = 2
