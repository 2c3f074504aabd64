"""What a mistake looks like: one line with what is wrong, one with what to do, and a status that says whose it is."""

from __future__ import annotations

import shutil
import sys
import textwrap

import click

from traceanalyzer.cli.screen import say
from traceanalyzer.errors import TraceAnalyzerError


def fail(message: str, hint: str, status: int) -> int:
    """Print both lines on standard error and return the exit status."""
    say(f"traceanalyzer: {' '.join(message.split())}\n  {_fitted(' '.join(hint.split()))}", err=True, style=_marked)
    return status


def _marked(text: str) -> str:
    return text.replace("traceanalyzer:", click.style("traceanalyzer:", fg="red", bold=True), 1)


def _fitted(text: str) -> str:
    """Text in the width of a terminal; one line where a program reads it."""
    if not sys.stderr.isatty():
        return text
    return textwrap.fill(text, shutil.get_terminal_size().columns, initial_indent="  ", subsequent_indent="  ").strip()


def fail_as(error: TraceAnalyzerError) -> int:
    """Print an error that was raised on purpose."""
    return fail(error.message, error.hint, error.exit_status)


def fail_usage(error: click.UsageError) -> int:
    """Print a mistake in the command itself, status 2: a command that lacks something prints its whole help first."""
    name = error.ctx.command_path if error.ctx else "traceanalyzer"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say(error.format_message(), err=True)
        return 2
    if isinstance(error, click.MissingParameter) and error.ctx is not None:
        say(f"{error.ctx.command.get_help(error.ctx)}\n", err=True)
    return fail(one_line(error.format_message()), f"'{name} --help' lists what can be given", 2)


def one_line(message: str) -> str:
    """Click's message with the names that it lists below each other listed in one line."""
    first, *names = (part.strip(" ,\t") for part in message.splitlines())
    return f"{first} {', '.join(name for name in names if name)}" if names else first
