"""The space of a search: all places that divide devices, heads, layers, experts and sequence, and what is tried at each."""

from __future__ import annotations

from collections.abc import Iterator

from traceanalyzer.errors import DomainError
from traceanalyzer.theory.memory.sharding import Sharding, check
from traceanalyzer.theory.planning.found import Found
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.prices.pipelines import pipelines
from traceanalyzer.theory.planning.prices.pricing import Axes, Place, recompute_choices

MOST_SEQUENCES = 64
"""Largest microbatch that is tried."""
FEWEST_TOKENS = 1024
"""Of a sequence on one rank that context parallelism leaves at least."""


def space(job: PlanJob, found: Found) -> Iterator[tuple[Place, Axes]]:
    """Every place with its axes; what makes no place is counted as rejected."""
    choices = recompute_choices(job)
    for place in _places(job, found):
        sizes = divisors(job.batch_size // place.replicas(job.num_devices))
        sizes = tuple(size for size in sizes if size <= MOST_SEQUENCES)
        axes = Axes(pipelines(job.shape, place.pp, job.framework), sizes, _zeros(job, place), choices)
        if not axes.pipelines:
            uneven = job.shape.num_layers % place.pp
            found.reject("layers do not divide into equal stages", 1, f"PP{place.pp}", uneven, "layers")
        elif axes.zeros:
            yield place, axes


def undivided_is_valid(job: PlanJob) -> bool:
    """Whether a place without TP, PP and EP exists: the batch divides over the replicas, with or without CP."""
    degrees = (cp for cp in divisors(job.num_devices) if cp == 1 or _context_fits(job, 1, cp))
    return any(job.batch_size % (job.num_devices // cp) == 0 for cp in degrees)


def divisors(number: int) -> list[int]:
    """In order."""
    return [each for each in range(1, number + 1) if number % each == 0]


def _zeros(job: PlanJob, place: Place) -> tuple[int, ...]:
    """Stages of ZeRO: without replicas they are all alike."""
    stages = job.framework.zero if place.pp == 1 else job.framework.zero_in_pipelines
    if place.tp > 1:
        stages = tuple(each for each in stages if each <= job.framework.most_zero_with_tp)
    alone = place.replicas(job.num_devices) * place.cp * place.tp == max(place.tp, place.ep * place.etp)
    return stages[:1] if alone and place.replicas(job.num_devices) * place.cp == 1 else stages


def _places(job: PlanJob, found: Found) -> Iterator[Place]:
    for tp in divisors(job.num_devices):
        fault = _tensor_fault(job, tp)
        if fault is not None:
            found.reject(*fault)
            continue
        for cp in divisors(job.num_devices // tp):
            if cp > 1 and not _context_fits(job, tp, cp):
                continue
            for pp in divisors(job.num_devices // (tp * cp)):
                yield from _expert_places(job, found, tp, cp, pp)


def _tensor_fault(job: PlanJob, tp: int) -> tuple[str, int, str, float, str] | None:
    try:
        check(job.shape, Sharding(tp=tp))
    except DomainError:
        return "heads do not divide over TP", 1, f"TP{tp}", job.shape.num_heads % tp or tp, "heads"
    if job.sequence_length % tp:
        return "the sequence does not divide over TP", 1, f"TP{tp}", job.sequence_length % tp, "tokens"
    return None


def _context_fits(job: PlanJob, tp: int, cp: int) -> bool:
    """Paired blocks need 2·CP equal ones, and blocks below `FEWEST_TOKENS` are not tried."""
    if not job.framework.context or job.sequence_length % (2 * cp * tp):
        return False
    return job.sequence_length // cp >= FEWEST_TOKENS


def _expert_places(job: PlanJob, found: Found, tp: int, cp: int, pp: int) -> Iterator[Place]:
    dp = job.num_devices // (tp * cp * pp)
    if pp > job.shape.num_layers:
        found.reject("more stages than layers", 1, f"PP{pp}", pp - job.shape.num_layers, "stages")
        return
    if job.batch_size % dp:
        found.reject(
            "the batch does not divide over DP",
            1,
            f"DP{dp}",
            min(job.batch_size % dp, dp - job.batch_size % dp),
            "sequences",
        )
        return
    if not job.shape.num_experts:
        yield Place(tp, cp, pp)
        return
    slices = (1, tp) if tp > 1 and job.framework.expert_slices else (1,)
    for etp in slices:
        if job.shape.expert_ffn_size % etp:
            continue
        for ep in divisors(job.shape.num_experts) if job.framework.experts else [1]:
            if (dp * cp * tp) % (ep * etp) == 0:
                yield Place(tp, cp, pp, ep, etp)
