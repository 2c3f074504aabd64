"""`job` of `review.json`: what is known of the job, and how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Generic, TypeVar

from msgspec import Meta
from msgspec.structs import replace

from traceanalyzer.hardware import Hardware
from traceanalyzer.job import Pacing
from traceanalyzer.model import ModelShape
from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import FactSource, Recomputation

Value_co = TypeVar("Value_co", covariant=True)


class Fact(Part, Generic[Value_co], frozen=True, kw_only=True):
    """A property of the job and how it is known."""

    value: Value_co
    source: Annotated[
        FactSource,
        Meta(description="`declared`: run.json, a job's file or an option; `recorded`: in the traces."),
    ]
    confidence: Annotated[float, Meta(description="0 to 1; 1 unless inferred.")] = 1.0
    basis: Annotated[str | None, Meta(description="What says so, in words; null if the source says it all.")] = None


class Degrees(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Parallel degrees; those that are not known are left out."""

    pp: int | None = None
    dp: int | None = None
    tp: int | None = None
    cp: int | None = None
    ep: int | None = None


class Place(Part, frozen=True, kw_only=True):
    """Where a rank is in the group of its pipeline."""

    rank: int
    pipeline_rank: int
    of: Annotated[int, Meta(description="Ranks of the pipeline.")]


class JobFacts(Part, frozen=True, kw_only=True, omit_defaults=True):
    """Properties of the job; those of which nothing is known are left out."""

    kind: Fact[str] | None = None
    world_size: Fact[int] | None = None
    layout: Fact[Degrees] | None = None
    places: Annotated[Fact[list[Place]] | None, Meta(description="Of the captured ranks, if they are 64 or fewer.")] = (
        None
    )
    schedule: Annotated[Fact[str] | None, Meta(description="`unknown`: the order is of no schedule known by name.")] = (
        None
    )
    num_stages: Fact[int] | None = None
    num_microbatches: Fact[int] | None = None
    num_chunks: Annotated[Fact[int] | None, Meta(description="Stages per rank.")] = None
    model: Fact[ModelShape] | None = None
    hardware: Fact[Hardware] | None = None
    num_devices: Fact[int] | None = None
    peak_flops_per_device: Fact[float] | None = None
    flops_per_token: Annotated[Fact[float] | None, Meta(description="Declared: forward and backward.")] = None
    flops_per_step: Annotated[Fact[float] | None, Meta(description="Declared: of the whole job.")] = None
    compute_mode: Annotated[Fact[str] | None, Meta(description="`real` or `paced`.")] = None
    pacing: Fact[Pacing] | None = None
    dtype: Fact[str] | None = None
    tokens_per_step: Fact[int] | None = None
    sequence_length: Fact[int] | None = None
    recompute: Annotated[
        Fact[Recomputation | None] | None, Meta(description="Its value is null if the traces do not show it.")
    ] = None
    backend: Fact[str] | None = None
    status: Annotated[Fact[str] | None, Meta(description="`started`, `completed` or `failed`.")] = None

    def known(self) -> Iterator[tuple[str, Fact[object]]]:
        """Every property of which something is known, by name, in the order of their declaration."""
        for name in self.__struct_fields__:
            fact: Fact[object] | None = getattr(self, name)
            if fact is not None:
                yield name, fact

    def with_facts(self, others: JobFacts) -> JobFacts:
        """These facts; where `others` know a property too, theirs."""
        return replace(self, **dict(others.known()))
