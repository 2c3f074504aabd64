"""The command line: one module per command, imported only when that command runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import click

from traceanalyzer.cli.manners.color import choose_color
from traceanalyzer.cli.manners.failures import fail, fail_as, fail_usage, one_line
from traceanalyzer.cli.manners.help import Commands
from traceanalyzer.cli.manners.versions import print_versions
from traceanalyzer.errors import TraceAnalyzerError

_LESS = "give fewer ranks or steps (--ranks, --steps), or run it on a machine with more free memory"

SUBJECTS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Measure": {
        "analyze": ("traceanalyzer.cli.analyze", "Measure a run's traces and compare them with theory."),
        "report": ("traceanalyzer.cli.report", "Write the HTML report of a run."),
        "compare": ("traceanalyzer.cli.compare", "Say what changed between runs, by how much, and who did it."),
        "gate": ("traceanalyzer.cli.gate", "Write limits that a build may not break."),
    },
    "Look closer": {
        "check": ("traceanalyzer.cli.captures.check", "Show what traces hold and what is wrong with them."),
        "table": ("traceanalyzer.cli.captures.table", "Print one table, or rows of it, in any of six formats."),
        "sql": ("traceanalyzer.cli.captures.sql", "Answer an SQL query over all tables."),
        "perfetto": ("traceanalyzer.cli.perfetto", "Write all ranks on one clock as one timeline for Perfetto."),
        "ingest": ("traceanalyzer.cli.captures.ingest", "Read traces once and keep them as a capture."),
    },
    "Calculate before a run": {
        "predict": ("traceanalyzer.cli.planning.predict", "Predict bubble and memory of pipeline schedules."),
        "plan": ("traceanalyzer.cli.planning.plan", "Plan a training job, or place its experts."),
    },
    "Run": {
        "run": ("traceanalyzer.cli.running.run", "Launch an instrumented reference training job."),
        "collect": ("traceanalyzer.cli.captures.collect", "Copy the folders of a run's nodes into one."),
    },
    "This tool": {
        "doctor": (
            "traceanalyzer.cli.doctor",
            "Show what is installed and what this machine allows, for a bug report.",
        ),
        "mcp": ("traceanalyzer.cli.mcp", "Answer an agent's questions by the Model Context Protocol."),
        "schema": ("traceanalyzer.cli.schema", "Print the JSON Schema of what a command writes."),
    },
}
COMMANDS = {name: entry for entries in SUBJECTS.values() for name, entry in entries.items()}


class _TraceAnalyzer(Commands):
    subjects = SUBJECTS


@click.command(
    cls=_TraceAnalyzer,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Shell completion (likewise with zsh_source, fish_source):
  eval "$(_TRACEANALYZER_COMPLETE=bash_source traceanalyzer)"
""",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_versions,
    help="Show versions and exit.",
)
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    expose_value=False,
    is_eager=True,
    callback=choose_color,
    help="Bold numbers and colour [auto: on a terminal, unless NO_COLOR is set].",
)
def traceanalyzer() -> None:
    """Measure pipeline bubble, all-to-all imbalance and MFU from profiler traces, each against theory.

    Start with `traceanalyzer analyze PATH`. PATH is a trace or a folder of traces.
    """


def _invoke(arguments: list[str] | None) -> int:
    try:
        result = traceanalyzer.main(arguments, prog_name="traceanalyzer", standalone_mode=False)
    except TraceAnalyzerError as error:
        return fail_as(error)
    except click.UsageError as error:
        return fail_usage(error)
    except click.ClickException as error:
        return fail(one_line(error.format_message()), "see --help", 2)
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
