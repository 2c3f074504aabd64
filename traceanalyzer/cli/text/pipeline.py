"""Why pipeline steps are longer than their ideal, and what follows, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SHOWN = 6
_LEAST_MS = 0.005


def cause_lines(bubble: Mapping[str, Any] | None) -> Iterator[str]:
    """Attribution that closes, its largest culprits, and the worth of remedies."""
    attribution = bubble["attribution_ms"] if bubble else None
    if bubble is None or attribution is None:
        return
    yield "Why steps are longer than their ideal (ms per step; ideal and causes sum to the measured phase)"
    computing = attribution["ideal"] - attribution["schedule"]
    yield f"  {'measured phase':<18}{attribution['measured']:>10.2f}"
    yield f"  {'ideal':<18}{attribution['ideal']:>10.2f}  computation {computing:.2f} + bubble of the schedule {attribution['schedule']:.2f}"
    causes = {name: ms for name, ms in attribution.items() if name not in ("measured", "ideal", "schedule")}
    for name, ms in sorted(causes.items(), key=lambda item: -abs(item[1])):
        if abs(ms) >= _LEAST_MS:
            yield f"  {name:<18}{ms:>+10.2f}  {_culprits(bubble['culprits'], name)}".rstrip()
    if bubble["worth"]:
        yield f"Worth of each remedy alone, by replay (replay misses the measured steps by {bubble['replay_error']:.2%})"
    for remedy in bubble["worth"][:_SHOWN]:
        yield f"  {remedy['ms']:>9.2f} ms  {remedy['remedy']}"


def _culprits(culprits: Sequence[Mapping[str, Any]], cause: str) -> str:
    largest = [each for each in culprits if each["cause"] == cause and abs(each["ms"]) >= _LEAST_MS]
    largest = sorted(largest, key=lambda each: -abs(each["ms"]))[:3]
    return ", ".join(
        f"{'rank ' + str(each['culprit']) if each['culprit'] is not None else 'not captured'} {each['ms']:+.2f}"
        for each in largest
    )


def straggler_lines(stragglers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Ranks slower than the median, with their slowdown."""
    if stragglers:
        yield "Slow ranks (slowdown: the ideal step with this rank's own durations ÷ the ideal step)"
    for each in stragglers[:_SHOWN]:
        stages = ",".join(map(str, each["stage"]))
        yield f"  rank {each['rank']:>4}  stage {stages:<6} {each['cause']:<14} {each['slowdown']:.3f}×  {each['cost_ms']:.2f} ms"


def next_lines(following: Mapping[str, Any] | None) -> Iterator[str]:
    """Schedules by simulated phase, with memory beside each."""
    if following is None:
        return
    yield f"What follows: schedules at this run's times ({following['assumptions']})"
    yield "  schedule             phase ms   saves ms   bubble  activations  microbatches"
    for each in following["options"]:
        mark = " <- this run" if each["is_current"] else ""
        size = "" if each["microbatch"] == "same" else " half as large"
        copies = ", 2 copies of the parameters" if each["num_parameter_copies"] > 1 else ""
        yield (
            f"  {each['schedule']:<20}{each['phase_ms']:>9.2f}{each['saves_ms']:>+11.2f}{each['bubble_share']:>9.1%}"
            f"{each['memory_ratio']:>11.2f}×  {each['num_microbatches']}{size}{copies}{mark}"
        )
    move = following["layers_to_move"]
    if move is not None:
        yield (
            f"  move {move['num_layers']} layer(s) from stage {move['from_stage']} to stage {move['to_stage']}: "
            f"saves {move['saves_ms']:.2f} ms if a layer takes the median time"
        )


def what_if_lines(study: Mapping[str, Any] | None) -> Iterator[str]:
    """Slowdowns under the published definitions, largest first."""
    if study is None:
        return
    yield "What-if study of stragglers (definitions of arXiv 2505.05713; 1 is no slowdown; never add them)"
    yield (
        f"  measured {study['measured_ms']:.1f} ms, replayed {study['replayed_ms']:.1f} ms (misses by {study['replay_error']:.2%}, "
        f"worst step {study['max_replay_error']:.2%}), ideal {study['ideal_ms']:.1f} ms"
    )
    shares = ((study["slowest_workers_share"], "slowest 3% of workers"), (study["last_stage_share"], "last stage"))
    explained = ", ".join(f"{name} explain {share:.1%}" for share, name in shares if share is not None)
    yield f"  S {study['slowdown']:.4f}, waste {study['waste_share']:.1%}; {explained}"
    yield (
        f"  launch delays, which the study's replay leaves out, make steps {study['launch_slowdown']:.4f}× as long; with them "
        f"the worst step is replayed within {study['launched_replay_error']:.4%}"
    )
    for title, name in (
        ("launch", "launches_by_kind"),
        ("kind", "by_kind"),
        ("stage", "by_stage"),
        ("replica", "by_replica"),
        ("rank", "by_rank"),
    ):
        largest = sorted(study[name].items(), key=lambda item: -item[1])[:_SHOWN]
        yield f"  {title:<8}" + ", ".join(f"{key} {value:.4f}" for key, value in largest)
