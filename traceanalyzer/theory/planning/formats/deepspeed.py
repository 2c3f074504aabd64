"""DeepSpeed's JSON: batch, ZeRO stage, activation checkpointing, tensor and pipeline degrees.

The model is built in code there, and so is a pipeline: `pipeline.stages` says with how many stages `PipelineModule` is to be
made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from traceanalyzer.errors import DomainError
from traceanalyzer.model_configs.settings import Settings
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.planning.formats.settings import Setting
from traceanalyzer.theory.planning.frameworks import DEEPSPEED
from traceanalyzer.theory.planning.job import Configuration, PlanJob


def write(job: PlanJob, setting: Setting) -> str:  # noqa: ARG001 - all writers are called alike
    """The JSON. Raises `DomainError` for what it cannot say."""
    chosen = setting.configuration
    sayable = chosen.cp == chosen.ep == chosen.etp == 1 and not chosen.num_recomputed_layers
    pipelined = chosen.pp > 1
    if not sayable or chosen.policy is Policy.SELECTIVE or (pipelined and chosen.zero > 1):
        raise DomainError(f"DeepSpeed's JSON has no setting for {chosen.text()}", "plan with --framework deepspeed")
    if chosen.tp > 1 and chosen.zero > DEEPSPEED.most_zero_with_tp:
        raise DomainError(
            f"DeepSpeed refuses ZeRO-{chosen.zero} beside autotp_size", "plan with ZeRO-2 at most, or without TP"
        )
    if pipelined and chosen.schedule != ScheduleName("1F1B"):
        raise DomainError(f"DeepSpeed runs 1F1B, not {chosen.schedule}", "plan with --framework deepspeed")
    config: dict[str, object] = {
        "train_batch_size": setting.batch_size,
        "train_micro_batch_size_per_gpu": chosen.microbatch_size,
        "gradient_accumulation_steps": chosen.num_microbatches,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": chosen.zero, "overlap_comm": True, "reduce_scatter": True},
    }
    if chosen.tp > 1:
        config["tensor_parallel"] = {"autotp_size": chosen.tp}
    if pipelined:
        config["pipeline"] = {"stages": chosen.pp}
    if chosen.policy is Policy.FULL:
        config["activation_checkpointing"] = {"partition_activations": chosen.tp > 1}
    return json.dumps(config, indent=1) + "\n"


def read(config: Mapping[str, object]) -> Setting:
    """The setting in a JSON; replicas follow from the batch. Raises `InputError`."""
    settings = Settings(config, "DeepSpeed's settings")
    batch, size = settings.integer("train_batch_size"), settings.integer("train_micro_batch_size_per_gpu")
    accumulated = settings.integer("gradient_accumulation_steps", default=1)
    zero, tensor, pipeline = (settings.table(name) for name in ("zero_optimization", "tensor_parallel", "pipeline"))
    pp = pipeline.integer("stages", default=1) if pipeline else 1
    return Setting(
        configuration=Configuration(
            tp=tensor.integer("autotp_size", default=1) if tensor else 1,
            pp=pp,
            dp=max(1, batch // max(1, size * accumulated)),
            zero=zero.integer("stage", default=0) if zero else 0,
            schedule=ScheduleName("1F1B") if pp > 1 else ScheduleName("GradAccumulation"),
            microbatch_size=size,
            num_microbatches=accumulated,
            policy=Policy.FULL if settings.table("activation_checkpointing") else Policy.NONE,
        ),
        sequence_length=None,
        batch_size=batch,
    )
