"""What `predict` was asked: options to workload, schedules and sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import msgspec
from msgspec import Meta

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.hardware import DeviceSpec, devices, find_device, known_device
from traceanalyzer.model import ModelShape
from traceanalyzer.model_configs import presets
from traceanalyzer.options.job_file import read_job_file
from traceanalyzer.regular_file import read_text
from traceanalyzer.schedule import ScheduleName, actions_of
from traceanalyzer.theory.interconnect.topology import find_cluster
from traceanalyzer.theory.model.stage_times import Cut, from_model, from_times
from traceanalyzer.theory.prediction.comparison import Prediction, Refusal, Workload, predict_all, predict_order, sweep
from traceanalyzer.theory.prediction.record import Predicted, Sweep, Varied
from traceanalyzer.theory.schedules.known import parse_schedule_name, schedules
from traceanalyzer.theory.schedules.order_csv import read_orders, stage_ranks_of, write_orders
from traceanalyzer.theory.schedules.orders import chunks_per_rank, order
from traceanalyzer.theory.schedules.recognise import recognise
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode, SendMode

_NS_PER_MS, _NS_PER_US, _MIB, _GIB = 1e6, 1e3, 2**20, 2**30
_DEFAULT_FORWARD_MS = 10.0
_BYTES_PER_ELEMENT = 2  # boundary tensors travel in 16 bit
_MAX_ORDER_BYTES = 64 * 2**20
_MAX_ACTIONS = 2_000_000

NotNegative = Annotated[float, Meta(ge=0)]
Degree = Annotated[int, Meta(ge=1)]


class PredictionOptions(TypedDict, total=False):
    """What a prediction may be given beside schedules and sizes."""

    orders: tuple[str, ...]
    """Files of orders as CSV in PyTorch's format."""
    group_size: int | None
    """Microbatches per group of interleaved schedules."""
    forward_ms: float | None
    """Forward of one microbatch on one rank's share of the model."""
    backward_ms: float | None
    """Full backward, likewise; twice the forward where it is not given."""
    weight_ms: float | None
    """The weight-gradient's part of the backward; half where it is not given."""
    stage_scale: str | None
    """Factors that make stages unequal, one per rank: `1,1,1,1.3`."""
    model: str | None
    """A preset or a configuration file: times are then taken from the model on `device`."""
    device: str | None
    dtype: str
    efficiency: float
    """Share of the dense peak that a stage reaches."""
    sequence_length: int
    microbatch_size: int
    hardware: str | None
    """A described cluster; adds MFU, memory and exchanges of the whole job."""
    tp: int
    cp: int
    dp: int
    ep: int
    etp: int
    zero: int
    recipe: str
    recompute: str
    recompute_ms: float
    hop_us: float
    """Latency of a message between ranks."""
    message_mib: float | None
    link_gbps: float | None
    """Bandwidth of a link, 10⁹ bytes/s; None: unlimited."""
    sends: SendMode
    pairs: PairMode
    pair_share: float
    reduction_ms: float
    optimizer_ms: float
    activation_gib: float | None
    sweep: str | None
    """Vary stages, microbatches or chunks: `microbatches=8,16,32`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything that a prediction was given, by its own name."""

    schedules: str = ""
    orders: tuple[str, ...] = ()
    num_ranks: Annotated[int, Meta(ge=1)]
    num_microbatches: Annotated[int, Meta(ge=1)]
    num_chunks: Annotated[int, Meta(ge=1)] = 2
    group_size: Annotated[int, Meta(ge=1)] | None = None
    forward_ms: NotNegative | None = None
    backward_ms: NotNegative | None = None
    weight_ms: NotNegative | None = None
    stage_scale: str | None = None
    model: str | None = None
    device: str | None = None
    dtype: str = "bf16"
    efficiency: Annotated[float, Meta(gt=0, le=1)] = 0.5
    sequence_length: Annotated[int, Meta(ge=1)] = 4096
    microbatch_size: Annotated[int, Meta(ge=1)] = 1
    hardware: str | None = None
    tp: Degree = 1
    cp: Degree = 1
    dp: Degree = 1
    ep: Degree = 1
    etp: Degree = 1
    zero: Annotated[int, Meta(ge=0, le=3)] = 1
    recipe: str = "bf16"
    recompute: Literal["none", "selective", "full"] = "none"
    recompute_ms: NotNegative = 0.0
    hop_us: NotNegative = 0.0
    message_mib: NotNegative | None = None
    link_gbps: Annotated[float, Meta(gt=0)] | None = None
    sends: SendMode = SendMode.ASYNC
    pairs: PairMode = PairMode.OVERLAPPED
    pair_share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    reduction_ms: NotNegative = 0.0
    optimizer_ms: NotNegative = 0.0
    activation_gib: NotNegative | None = None
    sweep: str | None = None
    write_order: str | None = None
    json_file: str | None = None
    html_file: str | None = None


def read_options(options: Mapping[str, object]) -> Options:
    """The options as one object. Raises `UsageError` if they make no sense together."""
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} {value} is not a finite number", "give a finite number")
    try:
        given = _with_hardware(msgspec.convert(options, Options))
    except msgspec.ValidationError as error:
        raise UsageError(f"no prediction: {_reason(error)}", "see `traceanalyzer predict --help`") from None
    if not given.schedules and not given.orders:
        raise UsageError("no schedule was named", "give --schedule, for example 1F1B,ZBV, or --order FILE")
    timed = [
        name for name in ("forward_ms", "backward_ms", "weight_ms", "stage_scale") if getattr(given, name) is not None
    ]
    if given.model is not None and timed:
        raise UsageError(f"--model and --{timed[0].replace('_', '-')} both give times", "leave one of them out")
    if given.device is not None and given.model is None:
        raise UsageError("--device needs a model to take times from", "give --model, or times and no device")
    if given.model is not None and given.device is None:
        raise UsageError("a model alone gives no times", "give --device too, for example 'H100 SXM'")
    if given.write_order is not None and len(_names(given.schedules)) != 1:
        raise UsageError("only one order can be written", "name one schedule with --write-order")
    return given


def _reason(error: msgspec.ValidationError) -> str:
    """What is wrong with which option, by the name that users know."""
    what, _, place = str(error).replace("`", "").partition(" - at $.")
    return f"{place.removeprefix('num_').replace('ranks', 'stages') or 'options'}: {what[0].lower()}{what[1:]}"


def _with_hardware(given: Options) -> Options:
    """A cluster names its device. Raises `UsageError` if there is no model to train on it."""
    if given.hardware is None:
        return given
    if given.model is None:
        raise UsageError("--hardware needs a model to price", "give --model")
    return replace(given, device=given.device or find_cluster(given.hardware).device)


def _check_size(workload: Workload) -> Workload:
    num_actions = 3 * workload.num_ranks * workload.num_chunks * workload.num_microbatches
    if num_actions > _MAX_ACTIONS:
        raise UsageError(
            f"{workload.num_ranks} ranks and {workload.num_microbatches} microbatches make {num_actions} actions",
            f"stay below {_MAX_ACTIONS}: fewer microbatches show the same pipeline",
        )
    return workload


def results(given: Options) -> Predicted:
    """Simulate everything that was asked for. Raises where nothing of it can be."""
    names = _names(given.schedules)
    workload = _check_size(_workload(given))
    found: list[Prediction | Refusal] = predict_all(names, workload)
    found += [_from_file(path, workload) for path in given.orders]
    refusals = [each for each in found if isinstance(each, Refusal)]
    if len(refusals) == len(found):
        raise refusals[0].error
    swept = None if given.sweep is None else _sweep(given.sweep, names, workload)
    return Predicted(workload=workload, source=_source(given), results=tuple(found), sweep=swept)


def _names(text: str) -> list[ScheduleName]:
    if text.strip().lower() == "all":
        return [name for name, record in schedules().items() if record.max_ranks is None]
    return list(dict.fromkeys(parse_schedule_name(part) for part in text.split(",") if part.strip()))


def _workload(given: Options) -> Workload:
    shape = None if given.model is None else read_shape(given.model)
    return Workload(
        num_ranks=given.num_ranks,
        num_microbatches=given.num_microbatches,
        num_chunks=given.num_chunks,
        group_size=given.group_size,
        cut=_cut(given, shape),
        recompute_ns=round(given.recompute_ms * _NS_PER_MS),
        gradient_reduction_ns=round(given.reduction_ms * _NS_PER_MS),
        optimizer_ns=round(given.optimizer_ms * _NS_PER_MS),
        costs=OpTimes(
            forward_ns=0,
            pairs=given.pairs,
            pair_share=given.pair_share,
            hop_ns=round(given.hop_us * _NS_PER_US),
            message_bytes=_message_bytes(given, shape),
            bytes_per_second=None if given.link_gbps is None else given.link_gbps * 1e9,
            sends=given.sends,
        ),
        activation_bytes=None if given.activation_gib is None else round(given.activation_gib * _GIB),
    )


def _message_bytes(given: Options, shape: ModelShape | None) -> int:
    if given.message_mib is not None:
        return round(given.message_mib * _MIB)
    if shape is not None:
        return given.microbatch_size * given.sequence_length * shape.hidden_size * _BYTES_PER_ELEMENT
    if given.link_gbps is not None:
        raise UsageError("a bandwidth says nothing without the size of a message", "give --message-mib or --model")
    return 0


def _cut(given: Options, shape: ModelShape | None) -> Cut:
    if shape is not None and given.device is not None:
        rate = _device(given.device).peak(given.dtype) * given.efficiency
        return from_model(shape, given.sequence_length, given.microbatch_size * given.sequence_length, rate)
    times = _rank_ms(given)
    if times[1] < 0:
        raise UsageError("the weight-gradient is longer than the backward it is part of", "give --backward-ms too")
    scale = None if given.stage_scale is None else _numbers(given.stage_scale, "--stage-scale")
    return from_times(given.num_ranks, (times[0] * _NS_PER_MS, times[1] * _NS_PER_MS, times[2] * _NS_PER_MS), scale)


def _device(name: str) -> DeviceSpec:
    try:
        return find_device(name)
    except UsageError as error:
        known = ", ".join(spec.name for _, spec in devices())
        raise UsageError(error.message, known_device(name).strip() or f"known devices: {known}") from None


def _rank_ms(given: Options) -> tuple[float, float, float]:
    """Forward, input-gradient and weight-gradient of one microbatch on a rank's share, in ms."""
    forward = _DEFAULT_FORWARD_MS if given.forward_ms is None else given.forward_ms
    backward = 2 * forward if given.backward_ms is None else given.backward_ms
    weight = backward / 2 if given.weight_ms is None else given.weight_ms
    return forward, backward - weight, weight


def _source(given: Options) -> str:
    """Source of the times, in words."""
    if given.model is not None:
        return (
            f"{given.model} on {given.device} at {given.efficiency:.0%} of its dense {given.dtype} peak, "
            f"{given.microbatch_size} x {given.sequence_length} tokens per microbatch"
        )
    forward, inputs, weights = _rank_ms(given)
    chosen = "" if given.forward_ms is not None else " (no times were given)"
    return f"forward {forward:g} ms, input-gradient {inputs:g} ms, weight-gradient {weights:g} ms per rank and microbatch{chosen}"


def read_shape(name: str) -> ModelShape:
    """The model in a file or of this name. Raises `InputError` and `UsageError`."""
    found = read_job_file(name).model
    if found is None:
        raise InputError(
            f"{name}: describes a job without a model",
            f"give a model's configuration, or one of: {', '.join(presets())}",
        )
    return found


def _from_file(name: str, workload: Workload) -> Prediction:
    path = Path(name)
    try:
        orders = read_orders(read_text(path, _MAX_ORDER_BYTES), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: {reason}", "give a CSV file with one row per rank") from None
    if len(orders) != workload.num_ranks:
        raise UsageError(f"{path}: holds {len(orders)} ranks, not {workload.num_ranks}", f"give --stages {len(orders)}")
    num_microbatches = len({action.microbatch for ops in orders for op in ops for action in actions_of(op)})
    if num_microbatches != workload.num_microbatches:
        raise UsageError(
            f"{path}: holds {num_microbatches} microbatches, not {workload.num_microbatches}",
            f"give --microbatches {num_microbatches}",
        )
    stage_ranks = stage_ranks_of(orders)
    return predict_order(path.name, orders, stage_ranks, recognise(orders, stage_ranks), workload)


def _numbers(text: str, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"'{text}' is not a list of numbers", f"write {option} as numbers separated by commas")
    return numbers


def written_order(given: Options) -> bytes:
    """The order of the one schedule that was named, as CSV for PyTorch's runtime."""
    (name,) = _names(given.schedules)
    num_chunks = chunks_per_rank(name) or given.num_chunks
    orders = order(name, given.num_ranks, given.num_microbatches, num_chunks, given.group_size)
    return write_orders(orders).encode()


_VARIED: dict[str, Varied] = {"stages": "num_ranks", "microbatches": "num_microbatches", "chunks": "num_chunks"}


def _sweep(text: str, names: list[ScheduleName], workload: Workload) -> Sweep:
    what, _, values = text.partition("=")
    if what not in _VARIED:
        raise UsageError(f"'{what}' cannot be varied", f"vary one of: {', '.join(_VARIED)}")
    if not names:
        raise UsageError("an order from a file cannot be swept", "name schedules too")
    points = [int(number) for number in _numbers(values, "--sweep")] if values else _usual(what, workload)
    if min(points) < 1:
        raise UsageError(f"{what} must be at least 1, got {min(points)}", "give positive numbers")
    workloads = [_check_size(replace(workload, **{_VARIED[what]: point})) for point in points]
    table, refusals = sweep(names, workloads)
    return Sweep(varied=_VARIED[what], table=table, refusals=tuple(refusals))


def _usual(what: str, workload: Workload) -> list[int]:
    if what == "microbatches":
        return [workload.num_ranks * factor for factor in (1, 2, 3, 4, 6, 8, 12, 16)]
    return [2, 4, 8, 16] if what == "stages" else [1, 2, 3, 4, 6, 8]
