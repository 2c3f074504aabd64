"""A configuration in the files of training frameworks, written and read back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from traceanalyzer.errors import DomainError, InputError
from traceanalyzer.model_configs import megatron_arguments
from traceanalyzer.theory.planning.formats import deepspeed, megatron, torchtitan
from traceanalyzer.theory.planning.formats.settings import Setting
from traceanalyzer.theory.planning.found import Ranked
from traceanalyzer.theory.planning.job import PlanJob

Writer = Callable[[PlanJob, Setting], str]
WRITERS: dict[str, Writer] = {
    "torchtitan": torchtitan.write,
    "megatron": megatron.write,
    "deepspeed": deepspeed.write,
}
"""By name of the framework."""


class Written(NamedTuple):
    """A configuration as a framework's file."""

    ranked: Ranked
    text: str


def first_written(job: PlanJob, ranked: Sequence[Ranked], framework: str) -> Written:
    """The fastest configuration that the framework's file can say, and the file. Raises `DomainError` if none can."""
    reason = DomainError("nothing fits", "see why above")
    for each in ranked:
        try:
            return Written(each, WRITERS[framework](job, Setting.of(job, each.configuration)))
        except DomainError as error:
            reason = error
    raise reason


def read(text: str, num_layers: int | None = None) -> Setting:
    """The setting in a torchtitan job file, a Megatron-LM command line or a DeepSpeed JSON, distinguished by content.

    `num_layers` is needed to count the chunks of a torchtitan pipeline. Raises `InputError`.
    """
    if "--num-layers" in text:
        return megatron.read(megatron_arguments(text))
    try:
        config: Mapping[str, object] = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError as error:
        raise InputError(f"not a framework's settings: {error}", "give TOML, JSON or a command line") from None
    return deepspeed.read(config) if "train_batch_size" in config else torchtitan.read(config, num_layers)
