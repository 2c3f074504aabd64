"""The sections of the review on kernels and on communication by group."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from traceanalyzer.review.part import Part


class KernelClass(Part, frozen=True, kw_only=True):
    """Kernels of one kind, over all device ranks and steps."""

    kind: str
    num_kernels: Annotated[int, Meta(description="Launched in the steps of all ranks.")]
    sum_ms: Annotated[float, Meta(description="Durations summed, however many run at once; mean per rank and step.")]
    union_ms: Annotated[float, Meta(description="Time in which one of the kind runs; mean per rank and step.")]
    share: Annotated[float, Meta(description="Of the durations of all kernels.")]
    launch_bound_share: Annotated[
        float | None,
        Meta(
            description="Of kernels launched one by one: those that take less than their thread needed until its next "
            "launch."
        ),
    ]


class KernelName(Part, frozen=True, kw_only=True):
    """Kernels of one name, over all device ranks and steps."""

    name: str
    kind: str
    num_kernels: int
    sum_ms: Annotated[float, Meta(description="Durations summed; mean per rank and step.")]
    share: Annotated[float, Meta(description="Of the durations of all kernels.")]
    mean_us: float
    min_us: float
    max_us: float
    launch_bound_share: Annotated[float | None, Meta(description="As of `classes`.")]


class KernelPhase(Part, frozen=True, kw_only=True):
    """Kernels of one phase of training, over all device ranks and steps."""

    phase: Annotated[str | None, Meta(description="`F`, `B`, `I`, `W`; null: unknown.")]
    basis: Annotated[str, Meta(description="`actions`, `annotations` or `threads`; several by commas.")]
    num_kernels: int
    sum_ms: Annotated[float, Meta(description="Durations summed over streams; mean per rank and step.")]


class Kernels(Part, frozen=True, kw_only=True):
    """Kernel time. By rank in the tables `kernel_classes`, `kernel_names`, `kernel_phases`."""

    classes: list[KernelClass]
    top: Annotated[list[KernelName], Meta(description="The names with most time, longest first.")]
    phases: list[KernelPhase] = []


class DimensionBytes(Part, frozen=True, kw_only=True):
    """What the ranks of one mesh dimension send, per rank and step, mean over the captured ranks and steps."""

    dimension: Annotated[str, Meta(description="`pp`, `ep`, `cp`, `tp`, `dp`, `world`.")]
    num_groups: Annotated[int, Meta(description="Of the dimension, as far as captured ranks are in them.")]
    num_crossing: Annotated[
        int | None, Meta(description="Groups with members on several hosts; null if a member's host is not known.")
    ]
    example: Annotated[list[int], Meta(description="Ranks of a group that crosses hosts.")]
    num_ranks: Annotated[int, Meta(description="Captured ranks that send in this dimension.")]
    within_bytes: Annotated[float, Meta(description="To ranks of the same host.")]
    between_bytes: Annotated[float, Meta(description="To ranks of other hosts.")]
    unplaced_bytes: Annotated[float, Meta(description="Where one of the two hosts is not known.")]
    num_unknown: Annotated[int, Meta(description="Operations whose size or group is not known: in no sum.")]


class CommunicationGroup(Part, frozen=True, kw_only=True):
    """Communication of one process group, mean per rank and step. Groups that communicate at once each count their time."""

    dimension: Annotated[str | None, Meta(description="`pp`, `ep`, `cp`, `tp`, `dp`, `world`; null: not known.")]
    group: Annotated[str | None, Meta(description="Member ranks joined by commas; null: not known.")]
    num_ranks: Annotated[int | None, Meta(description="Of the group.")]
    num_ranks_captured: int
    duration_ms: Annotated[float, Meta(description="Time in which an operation of the group runs.")]
    transfer_ms: Annotated[float | None, Meta(description="Summed over operations; null if one cannot be split.")]
    wait_ms: Annotated[float | None, Meta(description="Likewise.")]
    exposed_ms: Annotated[float | None, Meta(description="Of duration_ms, outside computation; null on CPU.")]
    exposed_share: Annotated[float | None, Meta(description="exposed ÷ step.")]
    overlapped_share: Annotated[float | None, Meta(description="Under computation ÷ duration.")]
    bus_bandwidth_gbps: Annotated[
        float | None, Meta(description="GB/s as nccl-tests count it, median over operations.")
    ]


class Communication(Part, frozen=True, kw_only=True):
    """Communication against computation. By rank in the table `communication_groups`, by size in `bandwidths`."""

    overlapped_share: Annotated[
        float | None,
        Meta(description="Of the time in which data is exchanged, under computation; device ranks."),
    ]
    overlapped_share_with_barriers: Annotated[
        float | None,
        Meta(description="The same with barriers of expert kernels (DeepEP's `notify`) counted as exchange."),
    ]
    exposed_share: Annotated[float | None, Meta(description="Exchange outside computation ÷ step; device ranks.")]
    groups: Annotated[list[CommunicationGroup], Meta(description="Most exposed first.")]
