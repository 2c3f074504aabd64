"""Published training runs, priced as they were configured: how far the model of a plan is from what others reached."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import find_preset
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.interconnect.dimension_volumes import ContextExchange
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.memory.activations import Kernels, Policy
from traceanalyzer.theory.memory.recipes import find_recipe
from traceanalyzer.theory.model.flops import Convention, flops_per_token
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pricing import price


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One run."""

    name: str
    job: PlanJob
    configuration: Configuration
    mfu: float
    """As published, a share."""
    convention: Convention
    """In which it was counted."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A run and its price."""

    run: Published
    predicted_mfu: float
    memory_bytes: float
    parts_ns: dict[str, float]

    @property
    def fits(self) -> bool:
        """Whether the fullest rank stays within its device."""
        return self.memory_bytes <= self.run.job.capacity_bytes


@cache
def published_runs() -> tuple[Published, ...]:
    """All rows of `data/published_runs.csv`."""
    text = resources.files("traceanalyzer").joinpath("data/published_runs.csv").read_text(encoding="utf-8")
    return tuple(_run(row) for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def compare(run: Published) -> Comparison:
    """Price a run as it was configured."""
    step, memory, parts = price(run.job, run.configuration)
    return Comparison(run=run, predicted_mfu=mfu(run.job, step, run.convention), memory_bytes=memory, parts_ns=parts)


def mfu(job: PlanJob, step_ns: float, convention: Convention = Convention.EXACT_CAUSAL) -> float:
    """Model FLOPs over what all devices could have computed in bf16."""
    flops = flops_per_token(job.shape, job.sequence_length, convention).total * job.tokens_per_step
    return flops / (step_ns / 1e9 * job.num_devices * job.peak)


def _run(row: dict[str, str]) -> Published:
    stored = row["stored_scores"] == "1"
    job = PlanJob(
        shape=_shape(row["model"]),
        cluster=find_cluster(row["cluster"]),
        num_devices=int(row["devices"]),
        sequence_length=int(row["sequence"]),
        batch_size=int(row["batch"]),
        recipe=find_recipe(row["recipe"]),
        kernels=Kernels(fused_attention=not stored, dropout=stored),
        context_exchange=ContextExchange.ALL_GATHER if row["gathered_context"] == "1" else ContextExchange.RING,
        deduplicated=row["deduplicated"] == "1",
        hidden_data_parallel=not stored,
    )
    degrees = {name: int(row[name]) for name in ("tp", "cp", "pp", "dp", "ep", "zero")}
    size = int(row["microbatch"])
    configuration = Configuration(
        **degrees,
        schedule=ScheduleName(row["schedule"]),
        num_chunks=int(row["chunks"]),
        microbatch_size=size,
        num_microbatches=job.batch_size // (degrees["dp"] * size),
        policy=Policy(row["policy"]),
    )
    return Published(
        name=row["name"],
        job=job,
        configuration=configuration,
        mfu=float(row["published_mfu"]) / 100,
        convention=Convention.FULL_ATTENTION if stored else Convention.EXACT_CAUSAL,
        source=row["source"],
    )


def _shape(text: str) -> ModelShape:
    if "/" not in text:
        return find_preset(text).shape
    layers, hidden, heads = (int(part) for part in text.split("/"))
    return ModelShape(
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=heads,
        head_size=hidden // heads,
        ffn_size=4 * hidden,
        vocab_size=51200,
        tied_embeddings=True,
    )
