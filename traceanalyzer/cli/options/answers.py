"""How `table` and `sql` write what they found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.cli.screen import say, screen_width

if TYPE_CHECKING:
    from traceanalyzer.queries.rendering import Format
    from traceanalyzer.queries.selection import Selected

_FORMATS = ("text", "csv", "json", "jsonl", "parquet", "markdown")
_OPTIONS = (
    click.option("--limit", "--head", type=click.IntRange(0), metavar="N", help="Only the first N rows."),
    click.option("--format", "kind", type=click.Choice(_FORMATS), help="Default: text, or as -o ends."),
    click.option("-o", "--output", default="-", metavar="FILE", help="Where to write; - is standard output."),
    click.option("--json", "json_file", metavar="FILE", help="Write JSON; - is standard output."),
)


def answer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--limit`, `--format`, `-o` and `--json`; the command hands them to `write_answer`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def write_answer(found: Selected, kind: Format, output: str) -> None:
    """Write the rows; how many were left out stands on standard error, where a person reads text."""
    from traceanalyzer.output import write_result
    from traceanalyzer.queries.rendering import render

    write_result(output, render(found.frame, kind, screen_width() if output == "-" else None))
    if kind != "text":
        return
    if not found.num_rows:
        say("no rows", err=True)
    elif found.frame.height < found.num_rows:
        say(f"{found.frame.height:,} of {found.num_rows:,} rows; --limit shows more", err=True)
