"""Options that describe the job behind traces, shared by `analyze` and `report`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.errors import InputError, UsageError

if TYPE_CHECKING:
    from traceanalyzer.gaps.declaration import Declaration

_MAX_BYTES = 16 * 2**20
_HINT = "give a Hugging Face config.json, Megatron-LM arguments, a torchtitan job file, our run.json, or a model's name"
_PATTERN = "action_pattern"
_OPTIONS = (
    click.option(
        "--job",
        "job_file",
        metavar="FILE",
        help="The job or its model: run.json, Hugging Face config.json, Megatron-LM arguments, torchtitan file, or a model's name; may hold an `action_pattern`.",
    ),
    click.option("--tokens-per-step", type=click.IntRange(1), help="Tokens of a step over the whole job."),
    click.option("--sequence-length", type=click.IntRange(1), help="Tokens of a sequence."),
    click.option("--num-devices", type=click.IntRange(1), help="Devices of the whole job [as recorded]."),
    click.option("--dtype", metavar="NAME", help="Number format computed in [as recorded]."),
    click.option("--recompute", type=click.Choice(["none", "selective", "full"]), help="What backward computes again."),
    click.option(
        "--peak-tflops",
        type=click.FloatRange(0, min_open=True),
        help="Dense peak of one device in 10¹² FLOP/s [by the device's name].",
    ),
)


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command takes them as keywords and hands them to `declaration`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def declaration(
    *,
    job_file: str | None = None,
    tokens_per_step: int | None = None,
    sequence_length: int | None = None,
    num_devices: int | None = None,
    dtype: str | None = None,
    recompute: str | None = None,
    peak_tflops: float | None = None,
) -> Declaration:
    """What the options declare. Raises `UsageError` and, where the file is none of the known kinds, `InputError`."""
    from traceanalyzer.gaps.declaration import Declaration
    from traceanalyzer.hardware import parse_dtype
    from traceanalyzer.model_configs.training import TrainingSettings

    if dtype is not None:
        parse_dtype(dtype)
    job, model, settings, pattern = (None, None, TrainingSettings(), None) if job_file is None else _read(job_file)
    return Declaration(
        job=job,
        action_pattern=pattern,
        model=model,
        tokens_per_step=tokens_per_step or settings.tokens_per_step,
        sequence_length=sequence_length or settings.sequence_length,
        num_devices=num_devices or settings.num_devices,
        dtype=dtype or settings.dtype,
        recompute=recompute or settings.recompute,
        peak_flops_per_device=peak_tflops * 1e12 if peak_tflops is not None else None,
    )


def _read(name: str) -> tuple[Any, Any, Any, str | None]:
    """Job, model, training settings and pattern of actions of a file; of a model's name the model alone."""
    from traceanalyzer.job import RUN_FILE
    from traceanalyzer.model_configs import find_preset, read_model_config
    from traceanalyzer.model_configs.training import TrainingSettings, read_training_settings
    from traceanalyzer.traces import read_job
    from traceanalyzer.traces.run_folder import decode_job

    path = Path(name)
    if not path.exists():
        try:
            return None, find_preset(name).shape, TrainingSettings(), None
        except UsageError:
            raise UsageError(f"--job {name}: no such file, and no model of this name", _HINT) from None
    if path.is_dir() or path.name == RUN_FILE:
        job = read_job(path if path.is_dir() else path.parent)
        if job is None:
            raise InputError(f"{path}: this folder has no {RUN_FILE}", _HINT)
        return job, None, TrainingSettings(), None
    config = _mapping(path)
    if {"layout", "compute_mode"} <= set(config):
        return decode_job(json.dumps(config).encode(), str(path)), None, TrainingSettings(), None
    pattern = _pattern(config, path)
    if pattern is not None and not config:
        return None, None, TrainingSettings(), pattern
    return None, read_model_config(config, str(path)), read_training_settings(config, str(path)), pattern


def _pattern(config: dict[str, object], path: Path) -> str | None:
    """The pattern of actions, taken out of the settings. Raises `UsageError`."""
    from traceanalyzer.tables.action_labels import check_pattern

    pattern = config.pop(_PATTERN, None)
    if pattern is None:
        return None
    if not isinstance(pattern, str):
        raise UsageError(f"{path}: {_PATTERN} is no text", "write a regular expression in quotes")
    return check_pattern(pattern)


def _mapping(path: Path) -> dict[str, object]:
    """The settings in a JSON or TOML file, or on a command line kept in a text file."""
    import msgspec

    from traceanalyzer.model_configs import megatron_arguments

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: is larger than {_MAX_BYTES} bytes", _HINT)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return dict(tomllib.loads(text))
        if "--num-layers" in text and not text.lstrip().startswith("{"):
            return megatron_arguments(text)
        return msgspec.convert(json.loads(text), dict[str, object])
    except (OSError, ValueError, RecursionError, msgspec.ValidationError) as error:
        raise InputError(f"{path}: not a job's description: {error}", _HINT) from None
