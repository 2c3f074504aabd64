"""Headings under which the help of a command lists its options."""

from __future__ import annotations

from collections.abc import Mapping

Sections = Mapping[str, frozenset[str]]

OTHER = "Options"
_FAIL = ("gate_file", "junit_file", "strict", "timeout", "max_memory", "memory")
_WRITTEN = [
    "json_file",
    "html_file",
    "gate_json",
    "out",
    "output",
    "redact",
    "form",
    "kind",
    "full",
    "limit",
    "sort",
    "write_order",
    "torchtitan",
    "megatron",
    "deepspeed",
    "printed",
]

READING: Sections = {
    "What is read": frozenset(
        [
            "columns",
            "rank_map",
            "ranks",
            "steps",
            "kernel_rules",
            "traces",
            "from_ms",
            "to_ms",
            "cpu",
            "where",
            "chosen",
            "more_bases",
        ]
    ),
    "The job behind the traces": frozenset(
        [
            "job_file",
            "adapter",
            "tokens_per_step",
            "sequence_length",
            "num_devices",
            "dtype",
            "recompute",
            "peak_tflops",
            "flops_per_token",
            "flops_per_step",
        ]
    ),
    "When to fail": frozenset(_FAIL),
    "What is written": frozenset(_WRITTEN),
}
"""Heading to the names of parameters below it, of commands that read traces; all others stand under `OTHER`."""

_PREDICT: Sections = {
    "The pipeline": frozenset(
        ["schedules", "orders", "num_ranks", "num_microbatches", "num_chunks", "group_size", "sweep"]
    ),
    "Times of a microbatch": frozenset(
        [
            "forward_ms",
            "backward_ms",
            "weight_ms",
            "stage_scale",
            "recompute_ms",
            "pairs",
            "pair_share",
            "reduction_ms",
            "optimizer_ms",
            "activation_gib",
            "calibrate",
        ]
    ),
    "Messages": frozenset(["hop_us", "message_mib", "link_gbps", "sends"]),
    "Times from a model": frozenset(
        [
            "model",
            "device",
            "dtype",
            "efficiency",
            "sequence_length",
            "microbatch_size",
            "hardware",
            "tp",
            "cp",
            "dp",
            "ep",
            "etp",
            "zero",
            "recipe",
            "recompute",
        ]
    ),
    "When to fail": frozenset(_FAIL),
    "What is written": frozenset(_WRITTEN),
}
_PLAN_JOB: Sections = {
    "The job": frozenset(["model", "gpus", "hardware", "seq", "batch"]),
    "What is tried": frozenset(["recipe", "framework", "context", "dedup", "load_ratio", "calibrate"]),
    "Memory of a device": frozenset(["memory_gib", "fixed_gib", "fragmentation"]),
    "When to fail": frozenset(_FAIL),
    "What is written": frozenset((*_WRITTEN, "most")),
}
_PLAN_EXPERTS: Sections = {
    "Where experts may be": frozenset(["redundant", "ranks", "groups", "nodes", "hardware", "token_bytes"]),
    "When to fail": frozenset(_FAIL),
    "What is written": frozenset((*_WRITTEN, "placement")),
}
_RUN: Sections = {
    "The job": frozenset(
        [
            "config",
            "assignments",
            "num_ranks",
            "num_steps",
            "compute",
            "seed",
            "hidden_size",
            "faults",
            "truth",
            "sweep",
        ]
    ),
    "A pipeline": frozenset(
        [
            "schedule",
            "num_microbatches",
            "num_chunks",
            "num_stages",
            "num_replicas",
            "order",
            "forward_ms",
            "backward_ms",
        ]
    ),
    "Experts": frozenset(
        [
            "routing",
            "num_shards",
            "hot_factor",
            "hot_rank",
            "expert_us_per_token",
            "experts_by",
            "expert_ffn_size",
            "shared_ffn_size",
            "capacity_factor",
            "pad_to_capacity",
            "grouped_gemm",
            "gemm_alignment",
            "placement",
        ]
    ),
    "Where it runs": frozenset(["dry_run", "nnodes", "node_rank", "rendezvous"]),
    "When to fail": frozenset(_FAIL),
    "What is written": frozenset((*_WRITTEN, "force")),
}
_OF: Mapping[str, Sections] = {"predict": _PREDICT, "job": _PLAN_JOB, "experts": _PLAN_EXPERTS, "run": _RUN}


def sections_of(command: str | None) -> Sections:
    """The headings of a command by its name, in their order."""
    return _OF.get(command or "", READING)
