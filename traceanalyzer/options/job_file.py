"""A file that describes a job or its model, of any kind that is known: the one place that opens them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import yaml

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.job import RUN_FILE, Job
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import find_preset, megatron_arguments, megatron_mapping, presets, read_model_config
from traceanalyzer.model_configs.training import TrainingSettings, read_training_settings
from traceanalyzer.options.settings_text import plain_json, plain_toml, plain_yaml
from traceanalyzer.regular_file import read_text
from traceanalyzer.spelling import names_hint
from traceanalyzer.tables.actions.labels import check_pattern
from traceanalyzer.traces import read_job
from traceanalyzer.traces.run_folder import decode_job

_MAX_BYTES = 16 * 2**20
_HINT = (
    "give a Hugging Face config.json, Megatron-LM arguments (a command line, a list, YAML or JSON), a torchtitan job file, "
    "our run.json, a file with flops_per_token or flops_per_step, or a model's name"
)

_PATTERN = "action_pattern"
_NOT_SAID = TrainingSettings()


@dataclass(frozen=True, slots=True)
class JobFile:
    """What a file says: a whole job (our own), or a model with what stands beside it."""

    job: Job | None = None
    model: ModelShape | None = None
    training: TrainingSettings = _NOT_SAID
    action_pattern: str | None = None
    """How the ranges of actions are named."""
    flops_per_token: float | None = None
    flops_per_step: float | None = None
    """Model FLOPs that the file states; one of the two."""


def read_job_file(name: str) -> JobFile:
    """The job in a file or run folder, or the model of that name.

    Raises `UsageError` if there is neither file nor model, `InputError` where the file describes none.
    """
    path = Path(name)
    if not path.exists():
        try:
            return JobFile(model=find_preset(name).shape)
        except UsageError:
            known = names_hint(name, list(presets()), _HINT)
            raise UsageError(f"{name}: neither a file nor the name of a model", known) from None
    if path.is_dir() or path.name == RUN_FILE:
        job = read_job(path if path.is_dir() else path.parent)
        if job is None:
            raise InputError(f"{path}: this folder has no {RUN_FILE}", _HINT)
        return JobFile(job=job, model=job.model if job.model.num_layers else None)
    config = _mapping(path)
    if {"layout", "compute_mode"} <= set(config):
        job = decode_job(json.dumps(config).encode(), str(path))
        return JobFile(job=job, model=job.model if job.model.num_layers else None)
    return _described(config, path)


def _described(config: dict[str, object], path: Path) -> JobFile:
    """The model in settings of any kind, or what they state in place of one."""
    pattern = _pattern(config, path)
    per_token, per_step = (_positive_number(config, name, path) for name in ("flops_per_token", "flops_per_step"))
    if per_token is not None and per_step is not None:
        raise InputError(f"{path}: states flops_per_token and flops_per_step", "keep one of them")
    stated = JobFile(action_pattern=pattern, flops_per_token=per_token, flops_per_step=per_step)
    if (pattern is not None or per_token or per_step) and not config:
        return stated
    training = read_training_settings(config, str(path))
    if per_token or per_step:  # whatever the model is, its FLOPs are stated
        return replace(stated, training=training)
    return replace(stated, model=read_model_config(config, str(path)), training=training)


def read_adapter_file(name: str) -> dict[str, object]:
    """The settings of an adapter. Raises `InputError`."""
    path = Path(name)
    settings = _mapping(path)
    if not {"peft_type", "r", "rank", "target_modules"} & set(settings):
        raise InputError(f"{path}: does not describe an adapter", "give PEFT's adapter_config.json")
    return settings


def _positive_number(config: dict[str, object], name: str, path: Path) -> float | None:
    """A number taken out of the settings. Raises `InputError`."""
    value = config.pop(name, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{path}: {name} is {value!r}", "write a positive number")
    return float(value)


def _pattern(config: dict[str, object], path: Path) -> str | None:
    """The pattern of actions, taken out of the settings. Raises `UsageError`."""
    pattern = config.pop(_PATTERN, None)
    if pattern is None:
        return None
    if not isinstance(pattern, str):
        raise UsageError(f"{path}: {_PATTERN} is not text", "write a regular expression in quotes")
    return check_pattern(pattern)


def _mapping(path: Path) -> dict[str, object]:
    """The settings in a JSON, TOML or YAML file, or on a command line kept in a text file."""
    try:
        found = _decoded(path, read_text(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: not a job's description: {reason}", _HINT) from None
    if isinstance(found, list) and found:
        return megatron_arguments([str(word) for word in cast("list[object]", found)])
    if not isinstance(found, dict):
        raise InputError(f"{path}: not a job's description: it is not a mapping of settings", _HINT)
    return megatron_mapping({str(key): value for key, value in cast("dict[object, object]", found).items()})


def _decoded(path: Path, text: str) -> object:
    if path.suffix == ".toml":
        return plain_toml(text)
    if path.suffix in {".yaml", ".yml"}:
        return plain_yaml(text)
    if re.search(r"--(num-layers|hidden-size|hybrid-\w+-pattern)\b", text) and not text.lstrip().startswith(("{", "[")):
        return megatron_arguments(text)
    return plain_json(text)
