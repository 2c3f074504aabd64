"""`traceanalyzer schema COMMAND`."""

from __future__ import annotations

import click

from traceanalyzer.cli.manners.help import Command


@click.command("schema", cls=Command)
@click.argument("words", nargs=-1, required=True, metavar="COMMAND")
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to write; - is standard output.")
def command(words: tuple[str, ...], output: str) -> None:
    """Print the JSON Schema of what COMMAND writes with --json: analyze, plan job, check and so on.

    Of `table` it is the list of tables; rows are objects by column. `sql` writes what the query asks for.
    """
    import json

    from traceanalyzer.cli.records import schema
    from traceanalyzer.output import write_result

    write_result(output, json.dumps(schema(" ".join(words)), indent=1).encode() + b"\n")
