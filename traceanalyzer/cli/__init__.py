"""The command line: one module per command, imported only when that command runs."""

from __future__ import annotations

import importlib
import os
import sys

import click

from traceanalyzer import __version__
from traceanalyzer.cli.claims import with_claims
from traceanalyzer.cli.options.budget import with_budget
from traceanalyzer.cli.screen import say
from traceanalyzer.errors import TraceAnalyzerError

_LESS = "give fewer ranks or steps (--ranks, --steps), or run it where more memory is free"

COMMANDS = {
    "run": ("traceanalyzer.cli.running.run", "Launch an instrumented reference training job."),
    "ingest": ("traceanalyzer.cli.captures.ingest", "Read traces once and keep them as a capture."),
    "check": ("traceanalyzer.cli.captures.check", "Show what traces hold and what is wrong with them."),
    "table": ("traceanalyzer.cli.captures.table", "Print one table, or rows of it, in any of six formats."),
    "sql": ("traceanalyzer.cli.captures.sql", "Answer an SQL query over all tables."),
    "analyze": ("traceanalyzer.cli.analyze", "Measure a run's traces and set them against theory."),
    "report": ("traceanalyzer.cli.report", "Write the HTML report of a run."),
    "compare": ("traceanalyzer.cli.compare", "Say what changed between runs, by how much, and who did it."),
    "gate": ("traceanalyzer.cli.gate", "Write limits that a build may not break."),
    "perfetto": ("traceanalyzer.cli.perfetto", "Write all ranks on one clock as one timeline for Perfetto."),
    "mcp": ("traceanalyzer.cli.mcp", "Answer an agent's questions by the Model Context Protocol."),
    "schema": ("traceanalyzer.cli.schema", "Print the JSON Schema of what a command writes."),
    "plan": ("traceanalyzer.cli.planning.plan", "Plan a training job, or where its experts should live."),
    "predict": ("traceanalyzer.cli.planning.predict", "Predict bubble and memory of pipeline schedules."),
}
"""Command name to (module with a click command called `command`, one-line help)."""


class LazyCommands(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the flow, as declared."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the one command that was asked for."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return with_budget(with_claims(command))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="traceanalyzer")
def traceanalyzer() -> None:
    """Measure pipeline bubble, all-to-all imbalance and MFU from profiler traces, each against theory."""


def fail(message: str, hint: str, status: int) -> int:
    """Say what went wrong and what to do, a line each; the exit status."""
    one_line = (" ".join(text.split()) for text in (message, hint))
    say("traceanalyzer: {}\n  {}".format(*one_line), err=True)
    return status


def _invoke(arguments: list[str] | None) -> int:
    try:
        result = traceanalyzer.main(arguments, prog_name="traceanalyzer", standalone_mode=False)
    except TraceAnalyzerError as error:
        return fail(error.message, error.hint, error.exit_status)
    except click.UsageError as error:
        name = error.ctx.command_path if error.ctx else "traceanalyzer"
        return fail(error.format_message(), f"'{name} --help' lists what can be given", 2)
    except click.ClickException as error:
        return fail(error.format_message(), "see --help", 2)
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # click takes any end of file for the user's Ctrl-D
            raise error.__cause__ from None
        return fail("interrupted", "what was finished before is kept", 130)
    except BrokenPipeError:
        sys.stdout = None  # the reader went away; nothing is left to flush
        return 0
    return result if isinstance(result, int) else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status (see `traceanalyzer.errors`)."""
    if os.environ.get("TRACEANALYZER_DEBUG"):
        return _invoke(arguments)
    try:
        return _invoke(arguments)
    except SystemExit:
        raise
    except MemoryError:
        return fail("not enough memory for this input", _LESS, 3)
    except BaseException as error:  # noqa: BLE001 - a panic of Polars is no Exception
        if type(error).__name__ == "PanicException":
            return fail(f"Polars gave up on this input: {error}", "report this with the input; check still reads it", 3)
        hint = "this is a bug: run again with TRACEANALYZER_DEBUG=1 and report what it prints"
        return fail(f"internal error: {type(error).__name__}: {error}", hint, 70)
