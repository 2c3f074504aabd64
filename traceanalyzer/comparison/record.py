"""`comparison.json`: what `compare` found. Text, HTML and Markdown are made of it and of nothing else.

Durations are integer nanoseconds, so that every waterfall sums exactly: `base_ns` + Σ `change_ns` = `new_ns`. Shares are
0 to 1. What cannot be known is left out and listed in `withheld` with what would unlock it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from traceanalyzer.review import Tool, Withheld
from traceanalyzer.review.part import Part

SCHEMA_VERSION = 1
Verdict = Literal["slower", "faster", "noise", "unknown"]
"""`noise`: the steps differ by no more than chance explains."""
View = Literal["cause", "owner", "ranks", "collective", "kernel_class", "kernel"]
"""What a waterfall is cut by."""
ChangeKind = Literal[
    "stage", "rank", "kernel", "computation", "host", "late_starts", "link", "communication", "expert_load",
    "configuration", "owner", "unexplained",
]  # fmt: skip
"""`computation`: of all ranks and kernels; `owner`: where replay is not possible, the ledger's difference."""
Basis = Literal["replay", "ledger", "difference", "review"]
"""`replay`: the new run replayed at the old run's times; `ledger`: difference of the mean rank's time; `difference`: what
is left of the step's change; `review`: difference of figures of two reviews."""
KernelChange = Literal["appeared", "gone", "slower", "faster", "more_often", "less_often", "same"]


class ComparedRun(Part, frozen=True, kw_only=True):
    """One run that was compared."""

    path: Annotated[str, Meta(description="As it was given.")]
    subject: Annotated[str, Meta(description="Schedule, sizes and device in one line.")]
    role: Literal["base", "new"]
    step_ns: Annotated[int | None, Meta(description="Median typical step; of an even number the shorter middle one.")]
    steps_ms: Annotated[list[float], Meta(description="Every typical step.")]
    noise_ns: Annotated[int | None, Meta(description="Half the width of the 95% interval of its median.")]
    noise_basis: str | None
    num_ranks: int
    has_tables: Annotated[bool, Meta(description="Tables were there; else review.json alone.")]
    distorted: Annotated[list[str], Meta(description="What shows that its host distorted its timeline.")] = []


class Change(Part, frozen=True, kw_only=True):
    """One thing that changed, with its culprit and what it does to the step."""

    kind: ChangeKind
    title: Annotated[str, Meta(description="What changed, in words that go after `because`.")]
    change_ns: Annotated[int, Meta(description="Added to the step; negative: taken off it.")]
    share: Annotated[float, Meta(description="change_ns ÷ step of the base.")]
    is_noise: Annotated[bool, Meta(description="Smaller than what chance and differences between runs explain.")]
    basis: Basis
    ranks: Annotated[list[int], Meta(description="Of the new run; empty: all, or nobody in particular.")] = []
    stages: list[int] = []
    kernel: str | None = None
    shape: Annotated[str | None, Meta(description="Operator and sizes that launched the kernel.")] = None
    group: Annotated[str | None, Meta(description="Member ranks of the group, joined by commas.")] = None
    before: Annotated[float | None, Meta(description="Value of what changed in the base, in `unit`.")] = None
    after: float | None = None
    unit: Annotated[str | None, Meta(description="Of `before` and `after`, for example `ms per rank and step`.")] = None


class Line(Part, frozen=True, kw_only=True):
    """One bar of a waterfall."""

    name: str
    base_ns: int
    new_ns: int
    change_ns: int
    base_count: Annotated[float | None, Meta(description="Per rank and step; null if nothing is counted.")] = None
    new_count: float | None = None
    change: Annotated[KernelChange | None, Meta(description="Of kernels.")] = None


class Waterfall(Part, frozen=True, kw_only=True):
    """From the old step to the new one: `base_ns` + Σ `change_ns` of the lines = `new_ns`, exactly."""

    by: View
    title: str
    meaning: Annotated[str, Meta(description="What a line is, and what the last one holds.")]
    base_ns: int
    new_ns: int
    lines: Annotated[list[Line], Meta(description="Largest change first; what is left comes last.")]


class FactChange(Part, frozen=True, kw_only=True):
    """A property of the job that differs."""

    name: str
    before: str
    after: str
    source: Annotated[str, Meta(description="How both are known: declared, recorded, inferred.")]
    forced: Annotated[bool, Meta(description="It makes the jobs incomparable; the user asked to go on.")] = False


class MetricChange(Part, frozen=True, kw_only=True):
    """A headline number of both runs."""

    path: Annotated[str, Meta(description="In review.json.")]
    title: str
    before: float | None
    after: float | None
    unit: Literal["share", "ms", "ratio", "count"]


class Pair(Part, frozen=True, kw_only=True):
    """One run against the base."""

    base: Annotated[int, Meta(description="Position in `runs`.")]
    new: int
    verdict: Verdict
    sentences: list[str]
    change_ns: int | None
    change_share: float | None
    limit_ns: Annotated[int | None, Meta(description="What the steps must differ by to be more than noise.")]
    limit_basis: str
    changes: Annotated[list[Change], Meta(description="Largest first; they sum to change_ns.")]
    waterfalls: list[Waterfall]
    facts: list[FactChange]
    metrics: list[MetricChange]
    unmatched_ranks: Annotated[
        list[int], Meta(description="Ranks of the new run whose place in the mesh the base does not have, or has not captured.")
    ] = []  # fmt: skip
    withheld: list[Withheld] = []


class Comparison(Part, frozen=True, kw_only=True):
    """Everything that `compare` says."""

    schema_version: int = SCHEMA_VERSION
    tool: Tool
    created: Annotated[str, Meta(description="ISO 8601, UTC.")]
    sentences: Annotated[list[str], Meta(description="Of one pair its own; of several what the trend is.")]
    floor_share: Annotated[float, Meta(description="Difference between runs of the same job that counts as chance.")]
    floor_basis: str
    runs: list[ComparedRun]
    pairs: Annotated[list[Pair], Meta(description="Every new run against the base, in the order given.")]


def to_json(comparison: Comparison) -> bytes:
    """The comparison as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema of `comparison.json`."""
    return msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Comparison)))


def schema_text() -> str:
    """The file `comparison.schema.json` of this package."""
    return json.dumps(json_schema(), indent=1) + "\n"
