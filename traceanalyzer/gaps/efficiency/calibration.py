"""Numbers of a plan as a result of `analyze` has them, and how far off they are where they were not taken from.

Rates of matrix multiplies are fitted by shape (`gemm_rates`). The factor that is left over is the median of the first half of
the steps over the prediction of the run's own configuration; its error is that of the second half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.gaps.efficiency.gemm_rates import Multiply, factors, gemm_rate
from traceanalyzer.hardware import find_device, parse_dtype
from traceanalyzer.review import Review, RooflineShape
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.prices.pricing import price
from traceanalyzer.theory.planning.runs.calibration import Measured, assumed, calibrated
from traceanalyzer.theory.planning.runs.own import OwnRun, Run, own_run

_HOST = ("host", "launch_gap", "queued")
_FEWEST_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a run measured of a plan's numbers."""

    measured: tuple[Measured, ...]
    configuration: str | None
    """The run's own, which the last factor is of."""
    missing: tuple[str, ...]
    """What the run does not show, in sentences."""


def calibration(review: Review, job: PlanJob) -> Calibration:
    """Take what the run shows. Raises `UsageError` if it is of another device or measured none."""
    _check(review, job)
    found = [
        *_shares(review.roofline, job),
        *_bandwidths(review, job),
        *_host(review, job),
        *_loads(review, job),
    ]
    if not found:
        raise UsageError("the result holds nothing to calibrate with", "analyze device traces with recorded shapes")
    with_rates = calibrated(job, found)
    missing = [f"{name}: as assumed" for name in _NAMES if name not in {each.name for each in found}]
    try:
        run = own_run(run_of(review), with_rates)
    except (DomainError, UsageError) as error:
        missing.append(f"the run's own step cannot be predicted: {error.message}")
        return Calibration(measured=tuple(found), configuration=None, missing=tuple(missing))
    factor = _factor(run, review.step.duration_ms.values)
    return Calibration(
        measured=(*found, factor),
        configuration=run.configuration.text(),
        missing=(*missing, *run.taken),
    )


_NAMES = ("gemm", "gemm_fill", "attention", "attention_backward", "near_share", "far_share", "host_share", "load_ratio")


def _check(review: Review, job: PlanJob) -> None:
    mode, hardware = review.job.compute_mode, review.job.hardware
    if mode is not None and mode.value == "paced":
        raise UsageError("a paced run measures no device: its computations sleep", "calibrate on a real run")
    if hardware is not None and not _is_of(hardware.value.device, job):
        raise UsageError(
            f"the result is of {hardware.value.device}, the plan of {job.cluster.device}",
            "calibrate on a run on the same device",
        )


def _is_of(device: str, job: PlanJob) -> bool:
    try:
        return find_device(device).name == job.cluster.spec.name
    except UsageError:
        return False


def _shares(shapes: Sequence[RooflineShape], job: PlanJob) -> Iterator[Measured]:
    """What matrix multiplies in the plan's number format reach, and fused attention forward and backward."""
    known = [(each, share) for each in shapes if each.bound == "compute" and (share := _reached(each, job))]
    multiplies = [
        Multiply(*sizes, share, each.ms)
        for each, share in known
        if each.kind == "gemm" and _format(each) == job.format and (sizes := factors(each.shape))
    ]
    if multiplies:
        rate = gemm_rate(multiplies, job.cluster.units)
        for name, value in (("gemm", rate.share), ("gemm_fill", rate.fill)):
            basis = f"{_shapes(multiplies)} in {job.format}"
            yield Measured(
                name=name, assumed=assumed(job, name), value=value, basis=basis, held_out_error=rate.held_out_error
            )
    attention = [(each, share) for each, share in known if each.kind == "attention"]
    for name, is_backward in (("attention", False), ("attention_backward", True)):
        rows = [(share, each.ms) for each, share in attention if ("backward" in each.name) == is_backward]
        if rows:
            value = sum(share * ms for share, ms in rows) / sum(ms for _, ms in rows)
            yield Measured(name=name, assumed=assumed(job, name), value=value, basis=_shapes(rows))


def _shapes(rows: Sequence[object]) -> str:
    return f"{len(rows)} shape{'s' if len(rows) > 1 else ''} of the result's roofline"


def _format(shape: RooflineShape) -> str | None:
    try:
        return parse_dtype((shape.dtype or "").removeprefix("c10::"))
    except UsageError:
        return None


def _reached(shape: RooflineShape, job: PlanJob) -> float | None:
    """Share of the peak; None if none is known for the number format."""
    name = _format(shape)
    peak = job.cluster.spec.flops_per_second.get(name) if name else None
    return shape.flops_per_second / peak if peak else None


def _bandwidths(review: Review, job: PlanJob) -> Iterator[Measured]:
    """Of the group that takes longest, within a domain and beyond."""
    groups = review.communication.groups if review.communication else []
    known = [(each.num_ranks, each.duration_ms, each.bus_bandwidth_gbps) for each in groups]
    for name, rate, near in (("near_share", job.cluster.near, True), ("far_share", job.cluster.far, False)):
        rows = [
            (ms, gbps, size)
            for size, ms, gbps in known
            if size and gbps and size > 1 and (size <= job.cluster.domain) == near
        ]
        if rows:
            _, gbps, size = max(rows)
            basis = f"{gbps:.4g} GB/s in groups of {size}, median over operations of every size"
            yield Measured(name=name, assumed=assumed(job, name), value=gbps * 1e9 / rate, basis=basis)


def _host(review: Review, job: PlanJob) -> Iterator[Measured]:
    by_owner = {each.owner: each.ms for each in review.accounting.owners}
    computing = by_owner.get("compute", 0.0)
    if computing > 0 and review.kernels is not None:
        waiting = sum(by_owner.get(owner, 0.0) for owner in _HOST)
        basis = f"{waiting:.4g} ms of gaps beside {computing:.4g} ms of computation a step"
        yield Measured(name="host_share", assumed=assumed(job, "host_share"), value=waiting / computing, basis=basis)


def _loads(review: Review, job: PlanJob) -> Iterator[Measured]:
    ratio = review.all_to_all.rank_load_max_over_mean if review.all_to_all else None
    if ratio is not None:
        basis = "fullest rank over the mean, over layers and steps"
        yield Measured(name="load_ratio", assumed=assumed(job, "load_ratio"), value=max(1.0, ratio), basis=basis)


def _factor(run: OwnRun, steps_ms: Sequence[float]) -> Measured:
    """Measured over predicted step, of the first half of the steps; the second half shows its error."""
    half = (len(steps_ms) + 1) // 2 if len(steps_ms) >= _FEWEST_STEPS else len(steps_ms)
    taken, held = steps_ms[:half], steps_ms[half:]
    predicted = price(run.job, run.configuration).step_ns / 1e6
    value = median(taken) / predicted
    error = fmean(abs(step / median(taken) - 1) for step in held) if held else None
    basis = f"{median(taken):.4g} ms over {len(taken)} steps, predicted {predicted:.4g} ms"
    return Measured(name="step_factor", assumed=1.0, value=value, basis=basis, held_out_error=error)


def run_of(review: Review) -> Run:
    """What a result says of its own job."""
    facts = review.job
    degrees = facts.layout.value if facts.layout else None
    return Run(
        shape=facts.model.value if facts.model else None,
        degrees={name: getattr(degrees, name) or 1 for name in ("tp", "cp", "pp", "dp", "ep")} if degrees else None,
        schedule=facts.schedule.value if facts.schedule else None,
        num_chunks=facts.num_chunks.value if facts.num_chunks else None,
        num_microbatches=facts.num_microbatches.value if facts.num_microbatches else None,
        tokens_per_step=facts.tokens_per_step.value if facts.tokens_per_step else None,
        sequence_length=facts.sequence_length.value if facts.sequence_length else None,
        recompute=facts.recompute.value if facts.recompute else None,
        has_steps=bool(review.step.duration_ms.values),
    )
