"""The plan of a job: the search's findings with utilisation, a simulation of the best, and how it was decided."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from traceanalyzer.theory.model.flops import flops_per_token
from traceanalyzer.theory.planning.decisions import Decision, Rule, decide, rules
from traceanalyzer.theory.planning.found import Found, Ranked
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.search import search
from traceanalyzer.theory.schedules.orders import order, placement
from traceanalyzer.theory.simulator.op_times import OpTimes, PairMode
from traceanalyzer.theory.simulator.simulation import simulate

_MOST_ACTIONS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run, why, and what else there is."""

    job: PlanJob
    found: Found
    decisions: tuple[Decision, ...]
    rules: tuple[Rule, ...]
    simulated_bubble_share: float | None
    """Bubble of the best configuration's order by simulation at its mean times; None if it has no pipeline or is large."""

    @property
    def best(self) -> Ranked | None:
        """The fastest that fits."""
        return self.found.ranked[0] if self.found.ranked else None

    def mfu(self, ranked: Ranked) -> float:
        """Model FLOPs (causal attention counted half) over the devices' dense 16-bit peak."""
        return model_flops_utilisation(self.job, ranked.step_ns)

    def tokens_per_second(self, ranked: Ranked) -> float:
        """Over all devices."""
        return self.job.tokens_per_step / ranked.step_ns * 1e9


def model_flops_utilisation(job: PlanJob, step_ns: float) -> float:
    """Of a step that takes so long, as `Plan.mfu` counts it."""
    flops = _flops_per_token(job) * job.tokens_per_step
    return flops / (step_ns / 1e9 * job.num_devices * job.peak)


@cache
def _flops_per_token(job: PlanJob) -> int:
    return flops_per_token(job.shape, job.sequence_length).total


def plan(job: PlanJob) -> Plan:
    """Search, rank and explain."""
    found = search(job)
    best = found.ranked[0] if found.ranked else None
    return Plan(
        job=job,
        found=found,
        decisions=decide(job, found),
        rules=rules(job, found),
        simulated_bubble_share=None if best is None else simulated_bubble(best),
    )


def bubble_share(ranked: Ranked) -> float:
    """Bubble and hops as a share of the pipeline phase, by formula."""
    idle = ranked.parts_ns["bubble"] + ranked.parts_ns["pp"]
    phase = ranked.step_ns - ranked.parts_ns["dp"] - ranked.parts_ns["optimizer"]
    return idle / phase if phase else 0.0


def simulated_bubble(ranked: Ranked) -> float | None:
    """Bubble share of the very order, stages at equal times and messages free, backward twice the forward."""
    chosen = ranked.configuration
    actions = 3 * chosen.pp * chosen.num_chunks * chosen.num_microbatches
    if chosen.pp == 1 or actions > _MOST_ACTIONS:
        return None
    busy = ranked.step_ns - sum(ranked.parts_ns[name] for name in ("bubble", "pp", "dp", "optimizer"))
    one = round(busy / chosen.num_microbatches / chosen.num_chunks / 3)
    times = OpTimes(forward_ns=one, input_gradient_ns=one, weight_gradient_ns=one, pairs=PairMode.OVERLAPPED)
    at = (chosen.schedule, chosen.pp, chosen.num_microbatches, chosen.num_chunks)
    return simulate(order(*at), placement(chosen.schedule, chosen.pp, chosen.num_chunks), times).bubble_share
