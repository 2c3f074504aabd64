"""Events become tables of steps, kernels, actions, collectives, messages and routing on one clock.

Ranks whose traces hold kernels are *device* ranks; on all others the main thread is the device.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.job import Job
from traceanalyzer.schema import ACTIONS, KERNEL_PHASES, MISSING_KERNELS, STEPS, conform, empty
from traceanalyzer.tables.actions.device import device_actions
from traceanalyzer.tables.actions.host_chunks import host_actions
from traceanalyzer.tables.actions.inferred import inferred_actions, pipeline_places
from traceanalyzer.tables.actions.labelled import actions, labelled_ranges
from traceanalyzer.tables.actions.labels import Labels, user_ranges
from traceanalyzer.tables.actions.overlaps import Overlaps, without_overlaps
from traceanalyzer.tables.clocks.alignment import ClockState, clocks, on_one_clock
from traceanalyzer.tables.communication.collectives import collectives
from traceanalyzer.tables.communication.communications import communications
from traceanalyzer.tables.communication.device_collectives import device_communication
from traceanalyzer.tables.communication.linked import linked_calls
from traceanalyzer.tables.communication.messages import cpu_messages
from traceanalyzer.tables.communication.receives import receives
from traceanalyzer.tables.computation.operators import expert_computation, operators, recorded_hosts
from traceanalyzer.tables.computation.phases import (
    annotated,
    annotated_passes,
    kernel_phases,
    phase_ranges,
    phases_of_kernels,
)
from traceanalyzer.tables.computation.taxonomy import KernelRule
from traceanalyzer.tables.experts.routing import routing
from traceanalyzer.tables.gathered import Gathered, gathered
from traceanalyzer.tables.groups.chains import with_own_pipelines
from traceanalyzer.tables.groups.replicas import with_gradient_roles
from traceanalyzer.tables.steps.basis import STEP_RANGES, StepBasis
from traceanalyzer.tables.steps.marks import with_iterations
from traceanalyzer.tables.steps.parts import (
    device_passes,
    main_thread_passes,
    optimizer_on_device,
    optimizer_ranges,
    phases_by_thread,
)
from traceanalyzer.tables.steps.typical import FirstStep, typical_steps, with_typical
from traceanalyzer.tables.steps.windows import device_steps, steps, whole_lengths, with_cut_starts
from traceanalyzer.traces import Recorded, in_memory

__all__ = ["ClockState", "StepBasis", "Tables", "build_tables", "of_steps", "of_typical_steps"]


@dataclass(frozen=True, slots=True)
class Tables:
    """What a run's events say, table by table (`traceanalyzer.schema`), all on one clock."""

    ranks: pl.DataFrame
    steps: pl.DataFrame
    kernels: pl.DataFrame
    """`KERNELS` of device ranks."""
    actions: pl.DataFrame
    actions_inferred: bool
    """The actions were inferred from launches and messages: `stage` is the rank's place in its pipeline, `microbatch` the
    ordinal of a chunk among those of its phase."""
    passes: pl.DataFrame
    """`PASSES` of ranks without actions."""
    optimizer: pl.DataFrame
    """`OPTIMIZER`."""
    receives: pl.DataFrame
    """Of CPU ranks; those of device ranks are in `p2p`."""
    collectives: pl.DataFrame
    p2p: pl.DataFrame
    """`P2P` of all ranks."""
    operators: pl.DataFrame
    """`rank`, `start_ns`, `end_ns` of operators on the main thread of CPU ranks; they may nest."""
    expert_computation: pl.DataFrame
    """`rank`, `step`, `part`, `layer`, `start_ns`, `end_ns`."""
    routing: pl.DataFrame
    clock: ClockState
    clocks: pl.DataFrame
    kernel_phases: pl.DataFrame = field(default_factory=lambda: empty(KERNEL_PHASES))
    """`KERNEL_PHASES`."""
    missing_kernels: pl.DataFrame = field(default_factory=lambda: empty(MISSING_KERNELS))
    """`MISSING_KERNELS`."""
    unrecorded_devices: tuple[int, ...] = ()
    """Ranks on a device of which no kernel is here: nothing is measured on them."""
    unread_devices: tuple[str, ...] = ()
    """Accelerators among them whose device events are of a kind that is not read."""
    host_ranks: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"rank": pl.Int32}))
    """`rank`: ranks without kernels whose main thread was recorded, and is the device."""
    pipelines: pl.DataFrame | None = None
    """`rank`, `pipeline`, `is_whole` where the input itself says so (op tables)."""
    overlaps: Overlaps = field(default_factory=Overlaps)
    """What was cut off actions that overlapped by rounding."""
    step_basis: StepBasis = field(default_factory=StepBasis)
    """How steps are marked."""
    step_ranges: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=STEP_RANGES))
    """`STEP_RANGES`, on the ranks' own clocks."""


@dataclass(frozen=True, slots=True)
class _Joint:
    """What is needed of all ranks to solve their clocks, on the ranks' own clocks at first."""

    first: FirstStep
    windows: pl.DataFrame
    kernels: pl.DataFrame
    collectives: pl.DataFrame
    p2p: pl.DataFrame


def build_tables(
    events: pl.DataFrame | Recorded,
    ranks: pl.DataFrame,
    job: Job | None,
    routing_records: pl.DataFrame,
    action_pattern: str | None = None,
    kernel_rules: Sequence[KernelRule] = (),
) -> Tables:
    """Every table of a run from its events (`EVENTS`, or in groups), ranks (`RANKS`), description and routing side file.

    `action_pattern` labels actions in the job's own way (`tables.action_labels`); default: what the description says.
    `kernel_rules` are tried before those of the package.
    Raises `UsageError` if it is no such pattern.
    """
    pattern = action_pattern or (job.action_pattern if job is not None else None)
    taken = gathered(in_memory(events) if isinstance(events, pl.DataFrame) else events, ranks, pattern, kernel_rules)
    own = _joint(taken, ranks, job)
    taken = replace(taken, kernels=taken.kernels.clear(), calls=taken.calls.clear())  # the largest: not needed twice
    clock_table, clock = clocks(ranks, job, own.collectives, own.p2p)
    own = _on_one_clock(own, clock_table)
    kernel_table, messages = own.kernels, own.p2p
    exchanged = with_gradient_roles(own.collectives, kernel_table, ranks)
    windows = _with_missing(own.windows, lost := on_one_clock(taken.missing, clock_table), kernel_table)
    aligned, marked = on_one_clock(taken.rest, clock_table), on_one_clock(taken.found.ranges, clock_table)
    main = aligned.join(kernel_table, on="rank", how="anti")
    received, labels = receives(main, windows), Labels(_places(ranks, job, messages), pattern)
    device = aligned.join(kernel_table, on="rank", how="semi")
    labelled = labelled_ranges(device, noted := user_ranges(device), labels, marked)
    of_device, inferred = _device_actions(device, labelled, windows, kernel_table, exchanged, messages, labels)
    found = pl.concat([actions(main, windows, received, labels), of_device]).sort("rank", "step", "position")
    if found.is_empty():
        found = host_actions(main, windows, messages)
        inferred = found.height > 0
    computed, overlaps = without_overlaps(found)
    passes, kernel_time = _phases(noted, labelled, main, windows, kernel_table, computed)
    return Tables(
        ranks=ranks,
        steps=with_typical(windows, own.first),
        kernels=kernel_table,
        actions=computed,
        actions_inferred=inferred,
        passes=passes,
        optimizer=_updates(aligned, kernel_table),
        receives=received,
        collectives=exchanged,
        p2p=messages,
        operators=operators(main),
        expert_computation=expert_computation(main, windows),
        routing=routing(routing_records, exchanged, windows),
        clock=clock,
        clocks=clock_table,
        overlaps=overlaps,
        kernel_phases=kernel_time,
        missing_kernels=lost,
        unrecorded_devices=tuple(sorted(taken.unrecorded["rank"].to_list())),
        unread_devices=tuple(taken.unrecorded["unread"].drop_nulls().unique().sort()),
        host_ranks=recorded_hosts(main),
        step_basis=taken.found.basis,
        step_ranges=taken.found.ranges,
    )


def _on_one_clock(own: _Joint, clock_table: pl.DataFrame) -> _Joint:
    windows, kernel_table, exchanged, messages = (
        on_one_clock(frame, clock_table) for frame in (own.windows, own.kernels, own.collectives, own.p2p)
    )
    return _Joint(own.first, windows, kernel_table, exchanged, messages)


def _updates(events: pl.DataFrame, kernel_table: pl.DataFrame) -> pl.DataFrame:
    """When the optimizer runs: on the device where a rank has one, else on its CPU."""
    updates = optimizer_ranges(events)
    on_host = updates.join(kernel_table, on="rank", how="anti")
    return pl.concat([on_host, optimizer_on_device(updates, kernel_table)])


def _with_missing(windows: pl.DataFrame, lost: pl.DataFrame, kernel_table: pl.DataFrame) -> pl.DataFrame:
    """`STEPS` with the number of kernels that are missing in each."""
    counts = lost.group_by("rank", "step").agg(pl.len().cast(pl.Int64).alias("num_missing_kernels"))
    on_device = pl.col("rank").is_in(kernel_table["rank"].unique().to_list())
    found = windows.drop("num_missing_kernels").join(counts, on=["rank", "step"], how="left", maintain_order="left")
    known = pl.when(on_device).then(pl.col("num_missing_kernels").fill_null(0)).alias("num_missing_kernels")
    return conform(found.with_columns(known), STEPS)


def _phases(
    noted: pl.DataFrame,
    labelled: pl.DataFrame,
    main: pl.DataFrame,
    windows: pl.DataFrame,
    kernel_table: pl.DataFrame,
    computed: pl.DataFrame,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`PASSES` of ranks without actions, by what their ranges mark, else by threads; and `KERNEL_PHASES`."""
    marked = annotated(kernel_table, phase_ranges(noted))
    by_range = annotated_passes(marked)
    by_thread = pl.concat([main_thread_passes(main, windows), device_passes(kernel_table)])
    passes = pl.concat([by_range, by_thread.join(by_range, on="rank", how="anti")])
    phases = phases_of_kernels(kernel_table, labelled, marked, phases_by_thread(kernel_table))
    return passes.join(computed, on="rank", how="anti"), kernel_phases(kernel_table, phases)


def _places(ranks: pl.DataFrame, job: Job | None, messages: pl.DataFrame) -> pl.DataFrame:
    """Every rank's place in its pipeline: `rank`, `stage`, from the description, else from its pipeline messages."""
    if job is None or job.layout is None:
        return pipeline_places(messages).select("rank", "stage")
    place = (pl.col("rank") // job.layout.width).cast(pl.Int32).alias("stage")
    return ranks.select("rank", place).unique().filter(pl.lit(job.layout.pp > 1))


def of_steps(tables: Tables, steps: Collection[int]) -> Tables:
    """The tables with these steps alone, all of them typical: they were chosen. Raises `UsageError`."""
    here = sorted(set(tables.steps["step"]))
    if not set(steps) & set(here):
        shown = ", ".join(map(str, here[:8])) + (", ..." if len(here) > 8 else "")
        raise UsageError("none of the chosen steps was captured", f"choose among the captured steps: {shown or 'none'}")

    kept = _with_steps(tables, steps)
    return replace(kept, steps=with_typical(kept.steps, chosen=True))


def of_typical_steps(tables: Tables) -> Tables:
    """The tables with the steps alone that every figure speaks of."""
    return _with_steps(tables, typical_steps(tables.steps))


def _with_steps(tables: Tables, steps: Collection[int]) -> Tables:
    """Rows of these steps; kernels stay as they are, for windows cut them."""

    def chosen(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter(pl.col("step").is_in(list(steps)))

    return replace(
        tables,
        steps=chosen(tables.steps),
        actions=chosen(tables.actions),
        receives=chosen(tables.receives),
        collectives=chosen(tables.collectives),
        p2p=chosen(tables.p2p),
        expert_computation=chosen(tables.expert_computation),
        routing=chosen(tables.routing),
    )


def _joint(taken: Gathered, ranks: pl.DataFrame, job: Job | None) -> _Joint:
    ranges, on_device = taken.found.ranges, taken.kernels
    main = taken.rest.join(on_device, on="rank", how="anti")
    own_windows = with_iterations(steps(main, ranges), main)
    of_kernels = with_cut_starts(device_steps(on_device, ranges), on_device, ranks)
    windows = pl.concat([own_windows, of_kernels]).sort("rank", "start_ns")
    of_devices, device_messages = device_communication(linked_calls(on_device, taken.calls), ranks, job)
    return _Joint(
        first=FirstStep(taken.found.with_less_work, whole_lengths(windows, on_device, ranges)),
        windows=windows,
        kernels=on_device,
        collectives=_together(collectives(main, windows, ranks, job), of_devices),
        p2p=with_own_pipelines(_together(cpu_messages(main, windows, ranks, job), device_messages)),
    )


def _together(main: pl.DataFrame, device: pl.DataFrame) -> pl.DataFrame:
    """Rows of CPU and device ranks; both number their matches from 0."""
    taken = pl.lit(main["match"].max(), pl.UInt64).fill_null(0) + 1
    return pl.concat([main, device.with_columns(pl.col("match") + taken)]).sort("rank", "start_ns")


def _device_actions(
    events: pl.DataFrame,
    labelled: pl.DataFrame,
    windows: pl.DataFrame,
    kernel_table: pl.DataFrame,
    exchanged: pl.DataFrame,
    messages: pl.DataFrame,
    labels: Labels,
) -> tuple[pl.DataFrame, bool]:
    """Labelled actions of device ranks, else those that launches and messages show; and whether it was the latter."""
    if kernel_table.is_empty():
        return pl.DataFrame(schema=ACTIONS), False
    joined = communications(exchanged, messages)
    device_found = device_actions(events, labelled, kernel_table, joined, labels, windows)
    if device_found.height:
        return device_found, False
    inferred = inferred_actions(kernel_table, joined, messages)
    return inferred, inferred.height > 0
