"""`recorded` of `review.json`: what the communication library itself wrote of a run."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part
from traceanalyzer.review.vocabulary import RecordSource


class RecordedSource(Part, frozen=True, kw_only=True):
    """One kind of record."""

    source: RecordSource
    ranks: list[int]
    num_records: int
    num_joined: Annotated[
        int | None, Meta(description="Collectives of the traces that it also holds; null without traces.")
    ]


class MissingCall(Part, frozen=True, kw_only=True):
    """A collective that some members called and others, whose history reaches far enough, did not."""

    group: Annotated[str, Meta(description="Name of the process group.")]
    operation: str
    sequence: int
    called: list[int]
    missing: list[int]


class Mismatch(Part, frozen=True, kw_only=True):
    """One number of a group under which members called different things."""

    group: str
    sequence: int
    calls: Annotated[list[str], Meta(description="What, and the ranks that called it.")]


class Desync(Part, frozen=True, kw_only=True):
    """A place where the calls of a group's members come apart, by flight-recorder dumps."""

    kind: Annotated[
        str,
        Meta(
            description="skipped, repeated, differs, shapes, missing, old_dump, no_dump, not_started, all_called; of messages size, "
            "not_sent, not_received, both_send, both_receive, no_dump, under_way; versions; nobody can be named: unlisted, forgotten, "
            "left_out, not_reached."
        ),
    ]
    group: str
    operation: str
    sequence: int | None
    ranks: Annotated[list[int], Meta(description="Who stands out; empty if nothing shows it.")]
    others: list[int]
    said: Annotated[str, Meta(description="The statement in words.")]


class UnfinishedCall(Part, frozen=True, kw_only=True):
    """A call that had not ended when the dump was written."""

    rank: int
    group: str
    operation: str
    sequence: int
    state: str


class RecordedOperation(Part, frozen=True, kw_only=True):
    """Collectives of one communicator, kind and size of which all members hold a record."""

    communicator: str
    kind: str
    bytes: int
    num_members: int
    num_operations: int
    median_us: Annotated[float, Meta(description="Of the shortest duration among members.")]
    bus_bandwidth_gbps: Annotated[float | None, Meta(description="As nccl-tests count it.")]
    wait_share: Annotated[float, Meta(description="How much longer members took than the shortest one.")]


class LateRank(Part, frozen=True, kw_only=True):
    """Waits for one rank by recorded durations: of equal bytes the last to come takes shortest. Needs no clock."""

    source: RecordSource
    rank: int
    num_collectives: int
    wait_ms: Annotated[float, Meta(description="Summed over the waiting ranks.")]


class Recorded(Part, frozen=True, kw_only=True):
    """Flight-recorder dumps and NCCL Inspector records. Lists are cut to the first 20."""

    sources: list[RecordedSource]
    num_apart: int
    apart: Annotated[list[Desync], Meta(description="What explains the others first.")]
    agreement: Annotated[
        str | None,
        Meta(
            description="That all recorded calls ended, or why it is unknown who did not call; null if `apart` says it, or without dumps."
        ),
    ] = None
    num_missing: int
    missing: list[MissingCall]
    mismatched: list[Mismatch]
    num_unfinished: int
    unfinished: list[UnfinishedCall]
    operations: list[RecordedOperation]
    late: list[LateRank]
