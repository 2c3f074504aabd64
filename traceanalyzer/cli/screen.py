"""The terminal that text is written to: its width, and the only way to write to it."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable

import click

from traceanalyzer.output import printable


def screen_width() -> int | None:
    """Columns of the terminal; None if the output goes to a file or another program, whose lines are not wrapped."""
    return max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def say(text: object, *, err: bool = False, end: str = "\n", style: Callable[[str], str] = str) -> None:
    """Write text to standard output or standard error, without anything that a terminal would obey.

    Names come from traces, and a name may hold escape sequences; every line that a command prints goes through here.
    `style` adds colour to what is left. If nobody reads standard error any more, the exit status still says what happened.
    """
    with contextlib.suppress(BrokenPipeError) if err else contextlib.nullcontext():
        click.echo(style(printable(str(text))) + end, err=err, nl=False)
