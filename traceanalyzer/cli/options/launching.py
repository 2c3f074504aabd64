"""Options of `traceanalyzer run` that say what is launched, and on which nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

_OPTIONS = (
    click.option(
        "--config", type=click.Path(path_type=Path), help="A file of settings: JSON, TOML or YAML, with kind or preset."
    ),
    click.option(
        "--set", "assignments", multiple=True, metavar="SETTING=VALUE", help="One setting, by its name in the file."
    ),
    click.option("--dry-run", is_flag=True, help="Print mesh, memory, step and bubble; launch nothing."),
    click.option("--nnodes", type=click.IntRange(1), default=1, help="Nodes of the job.  [default: 1]"),
    click.option(
        "--node-rank",
        type=click.IntRange(0),
        default=0,
        envvar=["NODE_RANK", "SLURM_NODEID", "JOB_COMPLETION_INDEX"],
        help="Which node this is.  [default: NODE_RANK, SLURM_NODEID or JOB_COMPLETION_INDEX, else 0]",
    ),
    click.option("--rdzv", "rendezvous", metavar="HOST:PORT", help="Where nodes meet: node 0 and a free port there."),
)


def launch_options(command: Command) -> Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
