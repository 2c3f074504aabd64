"""Options that describe the job behind traces, shared by `analyze` and `report`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from traceanalyzer.cli.options.reading import kernel_rules_option

_OPTIONS = (
    click.option(
        "--job",
        "job_file",
        metavar="FILE",
        help="The job or its model: run.json, Hugging Face config.json, Megatron-LM arguments, torchtitan file, or a model's name; may hold an `action_pattern`.",
    ),
    click.option(
        "--adapter",
        metavar="FILE",
        help="PEFT's adapter_config.json: the model of --job is frozen but for this adapter.",
    ),
    click.option("--tokens-per-step", type=click.IntRange(1), help="Tokens of a step over the whole job."),
    click.option("--sequence-length", type=click.IntRange(1), help="Tokens of a sequence."),
    click.option("--num-devices", type=click.IntRange(1), help="Devices of the whole job [as recorded]."),
    click.option("--dtype", metavar="NAME", help="Number format computed in [as recorded]."),
    click.option("--recompute", type=click.Choice(["none", "selective", "full"]), help="What backward computes again."),
    click.option(
        "--peak-tflops",
        type=click.FloatRange(0, min_open=True),
        help="Dense peak of one device in TFLOP/s, 10¹² FLOP/s [by the device's name].",
    ),
    click.option(
        "--flops-per-token",
        type=click.FloatRange(0, min_open=True),
        help="Model FLOPs of one token, forward and backward, in place of a model that is not known here.",
    ),
    click.option(
        "--flops-per-step",
        type=click.FloatRange(0, min_open=True),
        help="Model FLOPs of one step over the whole job, forward and backward, likewise.",
    ),
    kernel_rules_option,
)


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command takes them as keywords and hands them to `traceanalyzer.options.declaration`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
