"""Why a plan is what it is: the three steps (fit, batch, throughput), and the rules of thumb checked on the job's own space.

The steps are those of "The Ultra-Scale Playbook" (nanotron, 2025): fit a step into memory, reach the batch size, then
raise throughput. What a rule says is compared with the fastest configurations that keep and that break it.
"""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.theory.memory.recipes import Recipe
from traceanalyzer.theory.model.parameters import parameters
from traceanalyzer.theory.planning.found import Found, Ranked
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.space import undivided_is_valid

_GIB = 2**30
_NAMES = {
    "recompute": "recomputation",
    "bubble": "the pipeline bubble",
    "tp": "exposed tensor-parallel exchanges",
    "ep": "exposed all-to-alls of experts",
    "cp": "exposed context-parallel exchanges",
    "pp": "pipeline messages",
    "dp": "exposed gradient and weight exchanges",
    "optimizer": "the optimizer",
    "host": "waiting for the host",
    "unexplained": "what the calibrating run does not explain",
}
_ZERO_2_LIMIT = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One step of the decision."""

    step: str
    branch: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of thumb, and what this job's space says about it."""

    text: str
    holds: bool | None
    """None: one of the two sides does not exist or does not fit."""
    evidence: str


def decide(job: PlanJob, found: Found) -> tuple[Decision, ...]:
    """The steps that lead to the fastest configuration; only the first where nothing fits."""
    if not found.ranked:
        return (Decision(step="fit", branch="nothing fits", why=(*_states(job), _remedy(found))),)
    best = found.ranked[0]
    return _fit(job, found, best), _batch(job, best), _throughput(found, best)


def _remedy(found: Found) -> str:
    """What to change where there is nothing to choose from."""
    if found.num_priced:
        return "take more devices, shorter sequences, or a recipe of fewer bytes per parameter"
    return "no division of these devices is valid: change the number of devices or sequences by the reasons below"


def _states(job: PlanJob) -> tuple[str, ...]:
    count = parameters(job.shape, with_mtp=True).total
    each = _bytes_per_parameter(job.recipe)
    total, capacity = count * each, job.capacity_bytes
    needed = (
        f"{count / 1e9:.4g} billion parameters at {each:g} bytes ({job.recipe.name}) make {total / _GIB:.5g} GiB of weights, "
        f"gradients and optimizer state: {total / capacity:.3g} devices of {capacity / _GIB:.3g} GiB"
    )
    if job.num_devices == 1:
        return (needed,)
    return needed, f"divided over all {job.num_devices} devices they take {total / job.num_devices / _GIB:.3g} GiB each"


def _bytes_per_parameter(recipe: Recipe) -> float:
    return recipe.weight + recipe.gradient + recipe.matrix_optimizer


def _fit(job: PlanJob, found: Found, best: Ranked) -> Decision:
    chosen = best.configuration
    divided = [
        f"{name}={value}" for name, value in (("TP", chosen.tp), ("PP", chosen.pp), ("EP", chosen.ep)) if value > 1
    ]
    ways = ", ".join(divided) if divided else "no division of the model"
    branch = f"{ways}; {_replicas(chosen)}"
    if chosen.cp > 1:
        branch += f"; sequences over CP={chosen.cp}"
    branch += f"; {chosen.recompute_text() or 'nothing recomputed'}"
    alone = found.best_by.get(("undivided", True))
    why = [
        *_states(job),
        f"the fullest rank then holds {best.memory_bytes / _GIB:.3g} GiB: {_headroom(job, best)} stay free",
    ]
    if divided and alone:
        why.append(f"ZeRO alone would fit too, {_slower(alone, best)}: {alone.configuration.text()}")
    elif divided:
        why.append(_undivided(job))
    return Decision(step="fit", branch=branch, why=tuple(why))


def _replicas(chosen: Configuration) -> str:
    if chosen.dp * chosen.cp == 1:
        return "one replica, over which ZeRO has nothing to divide"
    ranks = f"{chosen.dp} replicas" if chosen.cp == 1 else f"{chosen.dp * chosen.cp} ranks (DP x CP)"
    return f"ZeRO-{chosen.zero} over {ranks}"


def _undivided(job: PlanJob) -> str:
    """Why nothing leaves the model whole: there is no such configuration, or none fits."""
    if not undivided_is_valid(job):
        return (
            f"an undivided model is not possible: {job.batch_size} sequences do not divide over the replicas that "
            f"{job.num_devices} devices would be"
        )
    return "no configuration that leaves the model undivided fits"


def _headroom(job: PlanJob, ranked: Ranked) -> str:
    return f"{(job.capacity_bytes - ranked.memory_bytes) / _GIB:.3g} GiB"


def _batch(job: PlanJob, best: Ranked) -> Decision:
    chosen = best.configuration
    why = [
        (
            f"{job.batch_size} sequences of {job.sequence_length} tokens ({job.tokens_per_step / 1e6:.3g} million tokens) = "
            f"DP {chosen.dp} x {chosen.num_microbatches} microbatches x {chosen.microbatch_size}"
        )
    ]
    if chosen.pp > 1:
        why.append(
            f"{chosen.num_microbatches} microbatches feed {chosen.pp} stages: M/P = {chosen.num_microbatches / chosen.pp:.3g}"
        )
    branch = "accumulate" if chosen.num_microbatches > 1 else "one microbatch per replica"
    if chosen.dp == 1:
        branch = "no replicas: the batch passes one copy of the model"
    return Decision(step="batch", branch=branch, why=tuple(why))


_MOSTLY = 0.95
"""A step that computes for this share of its time is bound by computation, whatever the rest is."""


def _throughput(found: Found, best: Ranked) -> Decision:
    lost = {name: ns for name, ns in best.parts_ns.items() if name != "compute" and ns > 0}
    why = [f"computation takes {best.parts_ns['compute'] / best.step_ns:.1%} of the step"]
    why += [f"{_NAMES[name]}: {ns / best.step_ns:.1%}" for name, ns in sorted(lost.items(), key=lambda kv: -kv[1])[:3]]
    chosen = best.configuration
    for name, value in (("tp", chosen.tp), ("pp", chosen.pp), ("zero", chosen.zero)):
        others = [each for (key, other), each in found.best_by.items() if key == name and other != value]
        if others:
            other = min(others, key=lambda each: each.step_ns)
            why.append(
                f"with another {name.upper() if name != 'zero' else 'ZeRO stage'}: {_slower(other, best)}, {other.configuration.text()}"
            )
    largest = max(lost, key=lambda name: lost[name], default="")
    computing = best.parts_ns["compute"] >= _MOSTLY * best.step_ns
    branch = (
        f"most beside computation goes to {_NAMES[largest]}" if largest and not computing else "bound by computation"
    )
    return Decision(step="throughput", branch=branch, why=tuple(why))


def _slower(other: Ranked, best: Ranked) -> str:
    return f"{other.step_ns / best.step_ns - 1:+.1%} time"


def rules(job: PlanJob, found: Found) -> tuple[Rule, ...]:
    """Every rule of thumb, checked."""
    if not found.ranked:
        return ()
    small = job.num_devices <= _ZERO_2_LIMIT
    zero_2, zero_1 = _least(found, "zero", (2, 3)), _least(found, "zero", (0, 1))
    pipelined = _least(found, "pp", tuple(value for name, value in found.best_by if name == "pp" and value != 1))
    plain = _least(found, "recompute", ("none",))
    again = _least(found, "recompute", ("selective", "full", "some layers"))
    return (
        _rule(
            "feed a pipeline at least 4 microbatches per stage",
            found.best_by.get(("deep", True)),
            found.best_by.get(("deep", False)),
        ),
        _rule(
            "keep tensor parallelism inside the NVLink domain",
            found.best_by.get(("inside", True)),
            found.best_by.get(("inside", False)),
        ),
        _rule("beyond one domain divide the model by pipelines", pipelined, found.best_by.get(("pp", 1))),
        _rule(
            f"up to about {_ZERO_2_LIMIT} devices ZeRO-2 or 3, above ZeRO-1 and model parallelism",
            *((zero_2, zero_1) if small else (zero_1, zero_2)),
        ),
        _rule("avoid recomputation altogether", plain, again),
    )


def _least(found: Found, name: str, values: tuple[object, ...]) -> Ranked | None:
    known = [found.best_by[name, value] for value in values if (name, value) in found.best_by]
    return min(known, key=lambda each: each.step_ns, default=None)


def _rule(text: str, keeping: Ranked | None, breaking: Ranked | None) -> Rule:
    if keeping is None or breaking is None:
        missing = "keeps" if keeping is None else "breaks"
        return Rule(text=text, holds=None, evidence=f"no valid configuration that {missing} it fits")
    sides = (("keeping it", keeping), ("breaking it", breaking))
    evidence = "; ".join(f"{name} {each.step_ns / 1e9:.4g} s ({each.configuration.text()})" for name, each in sides)
    return Rule(text=text, holds=keeping.step_ns <= breaking.step_ns, evidence=evidence)
