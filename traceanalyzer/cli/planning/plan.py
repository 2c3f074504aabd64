"""`traceanalyzer plan job` and `traceanalyzer plan experts`."""

from __future__ import annotations

import importlib

import click

_COMMANDS = {
    "job": ("traceanalyzer.cli.planning.job", "Choose parallelism, schedule and batch for a model on a cluster."),
    "experts": ("traceanalyzer.cli.planning.experts", "Propose a placement of experts from the loads of a run."),
}


class _Plans(click.Group):
    """Knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """As declared."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the one command that was asked for."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command("plan", cls=_Plans)
def command() -> None:
    """Plan a training job, or where its experts should live."""
