"""Options of `predict` that a measured run answers: times, what recomputation adds, and the error of the run's own step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traceanalyzer.gaps.pipeline.measured_times import MeasuredTimes
    from traceanalyzer.review import Review


def calibrated_options(options: dict[str, object]) -> str:
    """Put a run's times into the options; what they are of, in words, or nothing without --calibrate."""
    from traceanalyzer.analysis.kept import is_result, read_result
    from traceanalyzer.cli.analyze import measured
    from traceanalyzer.errors import UsageError
    from traceanalyzer.gaps.pipeline.measured_times import measured_times

    path, stops_early = options.pop("calibrate"), bool(options.pop("early_stop"))
    size, policy = options["microbatch_size"], options["recompute"]
    options |= {"microbatch_size": size or 1, "recompute": policy or "none"}
    if path is None:
        if stops_early:
            raise UsageError("--early-stop needs a run to take the forward from", "give --calibrate too")
        return ""
    taken = ("forward_ms", "backward_ms", "weight_ms", "model")
    given = next((name for name in taken if options[name] is not None), None)
    if given is not None:
        raise UsageError(f"--calibrate and --{given.replace('_', '-')} both give times", "leave one of them out")
    nothing: dict[str, object] = {"columns": None, "rank_map": None, "ranks": None, "steps": None}
    run = read_result(str(path)) if is_result(str(path)) else measured(str(path), nothing)
    times = measured_times(str(path), run.review, run.tables)
    if times.num_ranks != options["num_ranks"]:
        raise UsageError(
            f"{path}: is a run of {times.num_ranks} stage{'s' if times.num_ranks > 1 else ''}, not {options['num_ranks']}",
            f"give --stages {times.num_ranks}: another number of stages holds other layers",
        )
    scale = _scale(run.review, times, size)
    forward, backward = times.forward_ms * scale, times.backward_ms * scale
    again = _again_ms(run.review, policy, forward, stops_early=stops_early)
    options |= {
        "forward_ms": forward,
        "backward_ms": backward + min(again, 0.0),
        "weight_ms": None if times.weight_ms is None else times.weight_ms * scale,
        "recompute_ms": float(str(options["recompute_ms"])) + max(again, 0.0),
        "optimizer_ms": float(str(options["optimizer_ms"])) + times.rest_ms,
    }
    return _told(str(path), times, forward, backward, again)


def _told(path: str, times: MeasuredTimes, forward: float, backward: float, again: float) -> str:
    said = f" {'and' if again > 0 else 'less'} {abs(again):.4g} ms of recomputation," if again else ""
    beyond = "beyond forward and backward" if times.num_ranks == 1 else "beyond the simulation"
    error = times.held_out_error
    one = ", taken as one microbatch a step" if times.num_ranks == times.num_microbatches == 1 else ""
    held = (
        "too few steps show how far off its own are"
        if error is None
        else f"the later half of its own steps is {error:.1%} off the earlier half; another configuration can be further off"
    )
    return (
        f"{path}: forward {forward:.4g} ms, backward {backward:.4g} ms{',' if said else ''}{said} per rank and microbatch{one}, and "
        f"{times.rest_ms:.4g} ms of every step {beyond}; {held}"
    )


def _scale(review: Review, times: MeasuredTimes, size: object) -> float:
    """Sequences of a microbatch over the run's own. Raises `UsageError` where those are not known."""
    if size is None:
        return 1.0
    from traceanalyzer.errors import UsageError

    facts = review.job
    if facts.tokens_per_step is None or facts.sequence_length is None:
        raise UsageError(
            "the size of the run's own microbatches is not known",
            "analyze with --tokens-per-step and --sequence-length, or leave --microbatch-size out",
        )
    replicas = facts.layout.value.dp if facts.layout else None
    own = facts.tokens_per_step.value / (facts.sequence_length.value * (replicas or 1) * times.num_microbatches)
    return int(str(size)) / own


def _again_ms(review: Review, policy: object, forward_ms: float, *, stops_early: bool) -> float:
    """What recomputation adds to a backward; below 0 where the run recomputes and the prediction does not."""
    from traceanalyzer.errors import UsageError
    from traceanalyzer.gaps.efficiency.measured_passes import recomputed_share

    own = str(review.job.recompute.value or "none") if review.job.recompute else "none"
    asked = own if policy is None else str(policy)
    if asked == own:
        return 0.0
    if "none" not in (own, asked):
        raise UsageError(f"the run recomputes {own}, not {asked}", "calibrate on a run that recomputes nothing")
    sign, what = (1.0, asked) if own == "none" else (-1.0, own)
    return sign * forward_ms * recomputed_share(review, what, stops_early=stops_early)
