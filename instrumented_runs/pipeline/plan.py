"""Settles what a pipeline job runs before anything is launched: stages, placement, and the order of every rank.

Torch executes its own schedules by its own classes; every other order, a user's CSV included, goes through torch's
pipelining runtime, which adds the communication.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from instrumented_runs.settings import ORDER_FILE, PipelineSettings
from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.schedule import Phase, RankOrders, ScheduleName, actions_of
from traceanalyzer.theory.schedules.known import schedule
from traceanalyzer.theory.schedules.order_csv import read_orders, stage_ranks_of, write_orders
from traceanalyzer.theory.schedules.orders import check, chunks_per_rank, order, placement
from traceanalyzer.theory.simulator.op_times import OpTimes
from traceanalyzer.theory.simulator.simulation import simulate

LAYERS = 8
"""A model has at least this many layers, and as many per stage as in every other stage."""


def plan_named(settings: PipelineSettings, num_stages: int | None = None) -> tuple[PipelineSettings, str | None]:
    """Settings with chunks and layers filled in, and the CSV order where torch needs one.

    `num_stages`, where given, settles the number of ranks. Raises `DomainError` if the schedule does not exist at
    this point, with what would fit, and `UsageError` where stages, ranks and replicas do not go together.
    """
    name = ScheduleName(settings.schedule)
    if schedule(name).num_copies > 1:
        raise UsageError(
            f"{name} keeps two copies of the model, which torch's stages cannot do",
            "DualPipeV is the same schedule with one copy",
        )
    num_chunks = settings.num_chunks or chunks_per_rank(name) or 2
    if num_stages is not None:
        settings = _with_ranks(settings, num_stages, num_chunks)
    settings = _with_layers(dataclasses.replace(settings, num_chunks=num_chunks))
    num_ranks = settings.ranks_per_pipeline
    check(name, num_ranks, settings.num_microbatches, num_chunks)
    if schedule(name).torch_runs(num_ranks, settings.num_microbatches):
        return settings, None
    return settings, write_orders(order(name, num_ranks, settings.num_microbatches, num_chunks))


def plan_order(settings: PipelineSettings, path: Path) -> tuple[PipelineSettings, str]:
    """Settings for the order in a CSV file; ranks, chunks and microbatches are the file's.

    Raises `InputError` if the file cannot be read or is not a complete order, or the order can never end.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{path}: cannot be read: {reason}", "give a CSV with one row per rank") from error
    orders = read_orders(text, str(path))
    stage_ranks = stage_ranks_of(orders)
    num_microbatches = _check_complete(orders, len(stage_ranks), path)
    num_chunks, rest = divmod(len(stage_ranks), len(orders))
    if rest or any(stage_ranks.count(rank) != num_chunks for rank in range(len(orders))):
        raise InputError(f"{path}: ranks hold different numbers of stages", "give every rank equally many stages")
    simulate(orders, stage_ranks, OpTimes(forward_ns=1, input_gradient_ns=1, weight_gradient_ns=1))
    settings = dataclasses.replace(
        settings,
        schedule="",
        num_ranks=len(orders) * settings.num_replicas,
        num_chunks=num_chunks,
        num_microbatches=num_microbatches,
    )
    return _with_layers(settings), write_orders(orders)


def order_of(name: str, num_ranks: int, num_microbatches: int) -> str:
    """The CSV order of a schedule with one stage per rank. Raises `DomainError` if it does not exist at this point."""
    return write_orders(order(ScheduleName(name), num_ranks, num_microbatches, 1))


def stage_ranks_for(settings: PipelineSettings) -> tuple[int, ...]:
    """The place along its pipeline of the rank that holds each stage of a settled job."""
    path = Path(settings.folder) / ORDER_FILE
    if path.exists():
        return stage_ranks_of(read_orders(path.read_text(encoding="utf-8"), str(path)))
    return placement(ScheduleName(settings.schedule), settings.ranks_per_pipeline, settings.num_chunks)


def _with_ranks(settings: PipelineSettings, num_stages: int, num_chunks: int) -> PipelineSettings:
    if num_stages % num_chunks:
        raise UsageError(
            f"{num_stages} stages cannot be spread over ranks that hold {num_chunks} each",
            f"give a multiple of {num_chunks} stages, or other --chunks",
        )
    return dataclasses.replace(settings, num_ranks=num_stages // num_chunks * settings.num_replicas)


def _with_layers(settings: PipelineSettings) -> PipelineSettings:
    if settings.num_layers:
        if settings.num_layers < settings.num_stages:
            raise UsageError(
                f"{settings.num_layers} layers cannot fill {settings.num_stages} stages",
                f"give at least {settings.num_stages} layers",
            )
        return settings
    per_stage = -(-LAYERS // settings.num_stages)
    return dataclasses.replace(settings, num_layers=per_stage * settings.num_stages)


def _check_complete(orders: RankOrders, num_stages: int, path: Path) -> int:
    """Every stage computes every microbatch forward and backward, once; the number of microbatches."""
    actions = [action for ops in orders for op in ops for action in actions_of(op)]
    num_microbatches = 1 + max(action.microbatch for action in actions)
    for stage in range(num_stages):
        done = sorted((a.microbatch, a.phase) for a in actions if a.stage == stage)
        for microbatch in range(num_microbatches):
            phases = {phase for m, phase in done if m == microbatch}
            if phases not in ({Phase.FORWARD, Phase.BACKWARD}, {*Phase} - {Phase.BACKWARD}):
                raise InputError(
                    f"{path}: stage {stage} does not compute microbatch {microbatch} forward and backward",
                    "every stage needs F and B, or F, I and W, of every microbatch",
                )
        if len(done) != len(set(done)):
            raise InputError(f"{path}: stage {stage} computes something twice", "name every action once")
    return num_microbatches
