"""Options that describe the job behind traces, shared by `analyze` and `report`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.cli.options.kernel_rules import kernel_rules_option, load_kernel_rules

if TYPE_CHECKING:
    from traceanalyzer.gaps.efficiency.declaration import Declaration, DeclaredFlops
    from traceanalyzer.model import ModelShape

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
    """Add the options; the command takes them as keywords and hands them to `declaration`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def declaration(
    *,
    job_file: str | None = None,
    adapter: str | None = None,
    tokens_per_step: int | None = None,
    sequence_length: int | None = None,
    num_devices: int | None = None,
    dtype: str | None = None,
    recompute: str | None = None,
    peak_tflops: float | None = None,
    flops_per_token: float | None = None,
    flops_per_step: float | None = None,
    kernel_rules: str | None = None,
) -> Declaration:
    """What the options declare. Raises `UsageError` and, where the file is none of the known kinds, `InputError`."""
    from traceanalyzer.cli.options.job_file import JobFile, read_job_file
    from traceanalyzer.gaps.efficiency.declaration import Declaration
    from traceanalyzer.hardware import check_any_peak, parse_dtype

    if dtype is not None:
        parse_dtype(dtype)
    found = JobFile() if job_file is None else read_job_file(job_file)
    settings = found.training
    model = None if found.job else found.model
    if adapter is not None:
        model = _adapted(model or (found.job.model if found.job else None), adapter)
    return Declaration(
        job=found.job,
        action_pattern=found.action_pattern,
        model=model,
        tokens_per_step=tokens_per_step or settings.tokens_per_step,
        sequence_length=sequence_length or settings.sequence_length,
        num_devices=num_devices or settings.num_devices,
        dtype=dtype or settings.dtype,
        recompute=recompute or settings.recompute,
        peak_flops_per_device=None if peak_tflops is None else check_any_peak(peak_tflops * 1e12),
        flops=_flops(flops_per_token, flops_per_step) or _flops(found.flops_per_token, found.flops_per_step),
        kernel_rules=load_kernel_rules(kernel_rules),
    )


def _adapted(model: ModelShape | None, adapter: str) -> ModelShape:
    """The model with everything frozen but the adapter. Raises `UsageError` without a model."""
    from traceanalyzer.cli.options.job_file import read_adapter_file
    from traceanalyzer.errors import UsageError
    from traceanalyzer.model_configs import with_adapter

    if model is None or not model.num_layers:
        raise UsageError("--adapter needs the model it adapts", "give the base model's config.json (--job FILE)")
    return with_adapter(model, read_adapter_file(adapter), adapter)


def _flops(per_token: float | None, per_step: float | None) -> DeclaredFlops | None:
    """What is declared of FLOPs. Raises `UsageError` where it is declared twice."""
    from traceanalyzer.errors import UsageError
    from traceanalyzer.gaps.efficiency.declaration import DeclaredFlops

    if per_token is None and per_step is None:
        return None
    if per_token is not None and per_step is not None:
        raise UsageError("FLOPs are declared per token and per step", "give --flops-per-token or --flops-per-step")
    return DeclaredFlops(per_token=per_token, per_step=per_step)
