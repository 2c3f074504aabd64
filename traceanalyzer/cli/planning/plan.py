"""`traceanalyzer plan job` and `traceanalyzer plan experts`."""

from __future__ import annotations

from typing import ClassVar

import click

from traceanalyzer.cli.manners.help import Commands


class _Plans(Commands):
    subjects: ClassVar = {
        "Commands": {
            "job": (
                "traceanalyzer.cli.planning.job",
                "Choose parallelism, schedule and batch for a model on a cluster.",
            ),
            "experts": (
                "traceanalyzer.cli.planning.experts",
                "Propose a placement of experts from the loads of a run.",
            ),
        }
    }


@click.command("plan", cls=_Plans)
def command() -> None:
    """Plan a training job, or place its experts."""
