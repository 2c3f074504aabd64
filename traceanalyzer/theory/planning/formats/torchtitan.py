"""torchtitan job files (`[model]`, `[training]`, `[parallelism]`, `[activation_checkpoint]`).

ZeRO-3 is `fsdp_reshard_after_forward = "always"`, ZeRO-2 `"never"`. With a pipeline a replica's local batch is cut into
microbatches; without one gradients are accumulated up to the global batch. Chunks follow from the layers of a stage, where
embedding and output count as one layer each.
"""

from __future__ import annotations

from collections.abc import Mapping

from traceanalyzer.errors import DomainError, InputError
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import read_torchtitan
from traceanalyzer.model_configs.settings import Settings
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.planning.formats.settings import Setting
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.schedules.known import parse_schedule_name
from traceanalyzer.theory.schedules.orders import chunks_per_rank

_FLAVORS = (
    ("llama3", "8B"),
    ("llama3", "70B"),
    ("llama3", "405B"),
    ("deepseek_v3", "16B"),
    ("deepseek_v3", "671B"),
    ("qwen3", "0.6B"),
    ("qwen3", "8B"),
    ("qwen3", "32B"),
    ("qwen3", "30B-A3B"),
    ("qwen3", "235B-A22B"),
)


def write(job: PlanJob, setting: Setting) -> str:
    """The job file. Raises `DomainError` for what torchtitan cannot say."""
    chosen = setting.configuration
    family, flavor = _flavor(job.shape)
    if chosen.zero < 2 or chosen.etp > 1 or chosen.num_recomputed_layers:
        raise DomainError(f"torchtitan has no setting for {chosen.text()}", "plan with --framework torchtitan")
    lines = ["[model]", f'name = "{family}"', f'flavor = "{flavor}"', "", "[training]"]
    local = chosen.microbatch_size * (chosen.num_microbatches if chosen.pp > 1 else 1)
    lines += [
        f"local_batch_size = {local}",
        f"global_batch_size = {setting.batch_size}",
        f"seq_len = {job.sequence_length}",
        'mixed_precision_param = "bfloat16"',
        "",
        "[parallelism]",
        "data_parallel_replicate_degree = 1",
        f"data_parallel_shard_degree = {chosen.dp}",
        f'fsdp_reshard_after_forward = "{"always" if chosen.zero == 3 else "never"}"',
        f"tensor_parallel_degree = {chosen.tp}",
        f"context_parallel_degree = {chosen.cp}",
        f"pipeline_parallel_degree = {chosen.pp}",
        f"expert_parallel_degree = {chosen.ep}",
        f"expert_tensor_parallel_degree = {chosen.etp}",
    ]
    if chosen.pp > 1:
        lines += _pipeline(job.shape, chosen)
    lines += ["", "[activation_checkpoint]", f'mode = "{chosen.policy}"']
    if chosen.policy is Policy.SELECTIVE:
        lines.append('selective_ac_option = "op"')
    return "\n".join(lines) + "\n"


def read(config: Mapping[str, object], num_layers: int | None = None) -> Setting:
    """The setting in a job file. Raises `InputError`."""
    settings = Settings(config, "torchtitan's settings")
    training, parallelism = settings.table("training"), settings.table("parallelism")
    if training is None or parallelism is None:
        raise InputError("no [training] and [parallelism] tables", "give a torchtitan job file")
    degrees = {
        name: parallelism.integer(f"{key}_degree", default=1)
        for name, key in (
            ("tp", "tensor_parallel"),
            ("cp", "context_parallel"),
            ("pp", "pipeline_parallel"),
            ("ep", "expert_parallel"),
            ("etp", "expert_tensor_parallel"),
            ("dp", "data_parallel_shard"),
        )
    }
    recompute = settings.table("activation_checkpoint")
    batch = training.integer("global_batch_size")
    schedule, size = ScheduleName("GradAccumulation"), training.integer("local_batch_size")
    if degrees["pp"] > 1:
        schedule = parse_schedule_name(parallelism.text("pipeline_parallel_schedule", "1F1B"))
        size = parallelism.integer("pipeline_parallel_microbatch_size", default=1)
    return Setting(
        configuration=Configuration(
            **degrees,
            zero=2 if parallelism.text("fsdp_reshard_after_forward") == "never" else 3,
            schedule=schedule,
            num_chunks=_chunks(schedule, degrees["pp"], parallelism, num_layers),
            microbatch_size=size,
            num_microbatches=batch // (degrees["dp"] * size),
            policy=Policy(recompute.text("mode", "none")) if recompute else Policy.NONE,
        ),
        sequence_length=training.integer("seq_len"),
        batch_size=batch,
    )


def _flavor(shape: ModelShape) -> tuple[str, str]:
    for family, flavor in _FLAVORS:
        if read_torchtitan({"model": {"name": family, "flavor": flavor}}) == shape:
            return family, flavor
    raise DomainError(
        "torchtitan has no flavor of this model", f"its flavors: {', '.join(' '.join(f) for f in _FLAVORS)}"
    )


def _pipeline(shape: ModelShape, chosen: Configuration) -> list[str]:
    lines = [
        f'pipeline_parallel_schedule = "{chosen.schedule}"',
        f"pipeline_parallel_microbatch_size = {chosen.microbatch_size}",
    ]
    if chunks_per_rank(chosen.schedule) is not None:
        return lines
    weighted, stages = shape.num_layers + 2, chosen.pp * chosen.num_chunks
    each = -(-weighted // stages)
    if -(-weighted // each) != stages:
        raise DomainError(
            f"torchtitan cannot deal {shape.num_layers} layers out to {stages} stages by layers per stage",
            "choose another number of chunks",
        )
    return [*lines, f"pipeline_parallel_layers_per_stage = {each}"]


def _chunks(schedule: ScheduleName, num_ranks: int, parallelism: Settings, num_layers: int | None) -> int:
    fixed = chunks_per_rank(schedule)
    if fixed is not None:
        return fixed
    each = parallelism.integer("pipeline_parallel_layers_per_stage", default=0)
    if not each or num_layers is None:
        return 2
    return max(1, -(-(num_layers + 2) // each) // num_ranks)
