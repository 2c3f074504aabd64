"""Megatron-LM arguments, one a line, as its `pretrain_gpt.py` takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from traceanalyzer.errors import DomainError, InputError
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import megatron_arguments, read_megatron
from traceanalyzer.model_configs.settings import Settings
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.planning.formats.settings import Setting
from traceanalyzer.theory.planning.job import Configuration, PlanJob


def write(job: PlanJob, setting: Setting) -> str:
    """The arguments. Raises `DomainError` for what Megatron-LM cannot say."""
    lines = [
        *_model(job.shape),
        *_parallel(setting.configuration),
        *_batch(setting),
        *_recompute(job, setting.configuration),
    ]
    text = "\n".join(lines) + "\n"
    there = read_megatron(megatron_arguments(text))
    if replace(there, vocab_size=1, **_unsaid(there)) != replace(job.shape, vocab_size=1, **_unsaid(job.shape)):
        raise DomainError(
            "Megatron-LM has no arguments for this model", "its layers differ from what the arguments can say"
        )
    return text


def read(arguments: Mapping[str, object], num_devices: int | None = None) -> Setting:
    """The setting in a namespace of arguments; the launcher's WORLD_SIZE says how many devices. Raises `InputError`."""
    settings = Settings(arguments, "Megatron-LM's arguments")
    devices = num_devices or settings.integer("world_size", default=0)
    degrees = {
        "tp": settings.integer("tensor_model_parallel_size", default=1),
        "pp": settings.integer("pipeline_model_parallel_size", default=1),
        "cp": settings.integer("context_parallel_size", default=1),
        "ep": settings.integer("expert_model_parallel_size", default=1),
    }
    degrees["etp"] = settings.integer("expert_tensor_parallel_size", default=degrees["tp"])
    model_parallel = degrees["tp"] * degrees["pp"] * degrees["cp"]
    if not devices or devices % model_parallel:
        raise InputError(
            f"{devices} devices do not divide by {model_parallel}", "say how many devices the launcher starts"
        )
    chunks = settings.integer("num_virtual_stages_per_pipeline_rank", default=1)
    schedule = ScheduleName("GradAccumulation")
    if degrees["pp"] > 1:
        schedule = ScheduleName("Interleaved1F1B") if chunks > 1 else ScheduleName("1F1B")
    size, batch = settings.integer("micro_batch_size"), settings.integer("global_batch_size")
    dp = devices // model_parallel
    policy, layers = _policy(settings, chunks)
    return Setting(
        configuration=Configuration(
            **degrees,
            dp=dp,
            zero=int(settings.flag("use_distributed_optimizer")),
            schedule=schedule,
            num_chunks=chunks,
            microbatch_size=size,
            num_microbatches=batch // (dp * size),
            policy=policy,
            num_recomputed_layers=layers,
        ),
        sequence_length=settings.integer("seq_length"),
        batch_size=batch,
    )


def _policy(settings: Settings, chunks: int) -> tuple[Policy, int]:
    granularity = settings.text("recompute_granularity", "none")
    if granularity == "full" and settings.text("recompute_method") == "block":
        return Policy.NONE, chunks * settings.integer("recompute_num_layers")
    return Policy(granularity), 0


def _unsaid(shape: ModelShape) -> dict[str, object]:
    """What the arguments leave open or the reader leaves out: biases, routing in groups, head sizes under latent attention."""
    unsaid: dict[str, object] = {"extra_parameters": 0, "expert_groups": 0, "groups_per_token": 0}
    if shape.latent_attention:
        unsaid |= {"num_kv_heads": 0, "head_size": 0}
    return unsaid


def _model(shape: ModelShape) -> Iterator[str]:
    yield f"--num-layers {shape.num_layers}"
    yield f"--hidden-size {shape.hidden_size}"
    yield f"--num-attention-heads {shape.num_heads}"
    yield f"--ffn-hidden-size {shape.ffn_size}"
    yield f"--vocab-size {shape.vocab_size}"
    yield "--make-vocab-size-divisible-by 1"
    yield "--disable-bias-linear"
    yield "--normalization RMSNorm"
    yield "--position-embedding-type rope"
    if shape.gated_mlp:
        yield "--swiglu"
    if not shape.tied_embeddings:
        yield "--untie-embeddings-and-output-weights"
    latent = shape.latent_attention
    if latent:
        yield "--multi-latent-attention"
        if latent.query_rank:
            yield f"--q-lora-rank {latent.query_rank}"
        yield f"--kv-lora-rank {latent.key_value_rank}"
        yield f"--qk-head-dim {latent.plain_head_size}"
        yield f"--qk-pos-emb-head-dim {latent.rotary_head_size}"
        yield f"--v-head-dim {latent.value_head_size}"
    else:
        yield f"--kv-channels {shape.head_size}"
        if shape.num_kv_heads != shape.num_heads:
            yield "--group-query-attention"
            yield f"--num-query-groups {shape.num_kv_heads}"
    if shape.num_mtp_layers:
        yield f"--mtp-num-layers {shape.num_mtp_layers}"
    if shape.num_experts:
        yield from _experts(shape)


def _experts(shape: ModelShape) -> Iterator[str]:
    yield f"--num-experts {shape.num_experts}"
    yield f"--moe-router-topk {shape.experts_per_token}"
    yield f"--moe-ffn-hidden-size {shape.expert_ffn_size}"
    if shape.shared_expert_ffn_size:
        yield f"--moe-shared-expert-intermediate-size {shape.shared_expert_ffn_size}"
    if shape.expert_groups > 1:
        yield f"--moe-router-num-groups {shape.expert_groups}"
        yield f"--moe-router-group-topk {shape.groups_per_token}"
    pattern = "".join(str(int(shape.is_moe_layer(layer))) for layer in range(shape.num_layers))
    if "0" in pattern:
        first = len(pattern) - len(pattern.lstrip("0"))
        if "0" in pattern[first:]:
            yield f"--moe-layer-freq '[{','.join(pattern)}]'"
        else:
            yield f"--moe-layer-freq '([0]*{first}+[1]*{len(pattern) - first})'"


def _parallel(chosen: Configuration) -> Iterator[str]:
    yield f"--tensor-model-parallel-size {chosen.tp}"
    if chosen.tp > 1:
        yield "--sequence-parallel"
    yield f"--pipeline-model-parallel-size {chosen.pp}"
    if chosen.num_chunks > 1:
        yield f"--num-virtual-stages-per-pipeline-rank {chosen.num_chunks}"
    yield f"--context-parallel-size {chosen.cp}"
    yield f"--expert-model-parallel-size {chosen.ep}"
    yield f"--expert-tensor-parallel-size {chosen.etp}"
    if chosen.zero > 1 or chosen.schedule not in (
        ScheduleName("GradAccumulation"),
        ScheduleName("1F1B"),
        ScheduleName("Interleaved1F1B"),
    ):
        raise DomainError(f"Megatron-LM has no setting for {chosen.text()}", "plan with --framework megatron")
    if chosen.zero:
        yield "--use-distributed-optimizer"
        yield "--overlap-param-gather"
    yield "--overlap-grad-reduce"


def _batch(setting: Setting) -> Iterator[str]:
    yield "--bf16"
    yield f"--seq-length {setting.sequence_length}"
    yield f"--max-position-embeddings {setting.sequence_length}"
    yield f"--micro-batch-size {setting.configuration.microbatch_size}"
    yield f"--global-batch-size {setting.batch_size}"


def _recompute(job: PlanJob, chosen: Configuration) -> Iterator[str]:
    """What is recomputed between matrix multiplies is chosen by module, of which a plain MLP has none for its activation."""
    if chosen.num_recomputed_layers:
        if chosen.policy is not Policy.NONE or chosen.num_recomputed_layers % chosen.num_chunks:
            raise DomainError(
                f"Megatron-LM cannot {chosen.recompute_text()} of {chosen.num_chunks} chunks", "choose another"
            )
        yield "--recompute-granularity full"
        yield "--recompute-method block"
        yield f"--recompute-num-layers {chosen.num_recomputed_layers // chosen.num_chunks}"
    elif chosen.policy is Policy.FULL:
        yield "--recompute-granularity full"
        yield "--recompute-method uniform"
        yield "--recompute-num-layers 1"
    elif chosen.policy is Policy.SELECTIVE:
        if not job.shape.num_experts:
            raise DomainError("Megatron-LM recomputes no dense MLP's activation alone", "choose none or full")
        modules = ["layernorm", "moe_act", *(["mla_up_proj"] if job.shape.latent_attention else [])]
        yield "--recompute-granularity selective"
        yield f"--recompute-modules {' '.join(modules)}"
