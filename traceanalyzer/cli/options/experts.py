"""Options of `traceanalyzer run experts`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from instrumented_runs.settings import FORMER_ROUTINGS, ROUTINGS, SHARDINGS
from traceanalyzer.errors import InputError
from traceanalyzer.regular_file import read_text

Command = Callable[..., Any]
Ranks = tuple[tuple[tuple[int, ...], ...], ...]
"""Experts of every rank, layer by layer."""


def _placement(_context: click.Context, _option: click.Parameter, path: str | None) -> Ranks | None:
    return read_placement(path) if path else None


class _Routing(click.Choice[str]):
    """A routing, by a name of today or of earlier versions."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's value
        """The name of today."""
        return super().convert(FORMER_ROUTINGS.get(value, value), param, ctx)


_OPTIONS = (
    click.option(
        "--routing",
        type=_Routing(ROUTINGS),
        metavar="NAME",
        help=f"How tokens choose their experts: {', '.join(ROUTINGS)}.  [default: hot-rank]",
    ),
    click.option(
        "--shards",
        "num_shards",
        type=click.IntRange(1),
        help="Parts of the batch and its routing, a multiple of the ranks.  [default: one per rank]",
    ),
    click.option(
        "--hot-factor",
        type=click.FloatRange(0),
        help="Load of a hot expert or source over the mean.  [default: 2.4]",
    ),
    click.option("--hot-rank", type=click.IntRange(0), help="The rank that is hot, idle or ragged.  [default: 1]"),
    click.option(
        "--expert-us-per-token", type=click.FloatRange(0), help="Paced: forward of one token, in µs.  [default: 100]"
    ),
    click.option(
        "--experts-by",
        type=click.Choice(SHARDINGS),
        help="Whole experts on every rank, or a slice of every expert.  [default: ep]",
    ),
    click.option(
        "--hidden", "hidden_size", type=click.IntRange(1), help="Hidden size of the model.  [default: 64; dense: 512]"
    ),
    click.option(
        "--expert-ffn", "expert_ffn_size", type=click.IntRange(1), help="Inner size of an expert.  [default: 128]"
    ),
    click.option(
        "--shared-ffn",
        "shared_ffn_size",
        type=click.IntRange(0),
        help="Inner size of a shared expert.  [default: none]",
    ),
    click.option(
        "--capacity-factor",
        type=click.FloatRange(0),
        help="Drop the tokens beyond an expert's capacity; 0: drop nothing.  [default: 0]",
    ),
    click.option("--pad-to-capacity", is_flag=True, default=None, help="Send buffers filled up to their capacity."),
    click.option(
        "--grouped-gemm", is_flag=True, default=None, help="Use one grouped multiplication for a rank's experts."
    ),
    click.option(
        "--gemm-alignment", type=click.IntRange(1), help="Fill rows per expert up to a multiple.  [default: 1]"
    ),
    click.option(
        "--placement",
        metavar="FILE",
        callback=_placement,
        help="Place experts as this file of `traceanalyzer plan experts` says.",
    ),
)


def expert_options(command: Command) -> Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_placement(path: str) -> Ranks:
    """Experts of every rank, layer by layer, from the file that `plan` writes. Raises `InputError`."""
    hint = "write it with traceanalyzer plan experts PATH --placement FILE, for the ranks of one expert group"
    try:
        plan = json.loads(read_text(path, 64 << 20))
        layers = sorted(plan["layers"], key=lambda layer: layer["layer"])
        groups = {tuple(layer["group"]) for layer in layers}
        found = tuple(
            tuple(tuple(int(expert) for expert in experts) for experts in layer["rank_experts"]) for layer in layers
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not a placement of experts: {error}", hint) from None
    if len(groups) != 1 or [layer["layer"] for layer in layers] != list(range(len(layers))):
        raise InputError(f"{path}: not one placement for each layer from 0 on", hint)
    return found
