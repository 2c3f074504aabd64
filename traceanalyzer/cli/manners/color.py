"""Whether text has colour: as asked, else as the terminal and NO_COLOR say (no-color.org)."""

from __future__ import annotations

import os
import re

import click

_NUMBER = re.compile(r"(?<![\w.,/:-])[+−±-]?\d[\d,]*(?:\.\d+)?(?:%|×| (?:ns|µs|ms|s|h|KiB|MiB|GiB|GB/s|TFLOP/s))(?!\w)")
_MARKS = {"[!!]": "yellow", "[ok]": "green"}


def choose_color(context: click.Context, _option: click.Parameter, choice: str) -> str:
    """Settle colour for everything that this command prints."""
    if choice == "always":
        context.color = True
    elif choice == "never" or os.environ.get("NO_COLOR"):
        context.color = False
    return choice


def emphasized(text: str) -> str:
    """Text with its numbers that have a unit in bold, headings in bold and marks in colour; `click.echo` takes that off elsewhere."""
    return "\n".join(_emphasized(line) for line in text.split("\n"))


def _emphasized(line: str) -> str:
    line = _NUMBER.sub(lambda found: click.style(found[0], bold=True), line)
    for mark, color in _MARKS.items():
        line = line.replace(mark, click.style(mark, fg=color), 1)
    return line
