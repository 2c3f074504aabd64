"""One fault at a time planted into GPU traces: what its clean twin says it costs, what blame and worth say.

    PYTHONPATH=.:tests python benchmarks/planted_faults.py [JOB ...]

Prints one row per job and fault. The clean twin is the same job without the fault, measured the same way. Clocks are up to
3 ms apart. Jitter makes every fifth action longer, so that medians stay what they are.
"""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from planted import Faults, Job, plant

from traceanalyzer.gaps.analysis import analyze, read
from traceanalyzer.gaps.pipeline_review import AttributionMs
from traceanalyzer.gaps.review import Bubble

CLOCKS = {1: 3_000_000, 2: -3_000_000}
SHORT = 1 << 20
JOBS = {
    "1F1B": Job(p2p_bytes=SHORT),
    "1F1B-unlabelled": Job(p2p_bytes=SHORT, labels=None, coalesced=True),
    "GPipe": Job(p2p_bytes=SHORT, schedule="GPipe", labels="own"),
    "GPipe-unlabelled": Job(p2p_bytes=SHORT, schedule="GPipe", labels=None),
    "interleaved": Job(p2p_bytes=SHORT, schedule="Interleaved1F1B", num_chunks=2),
    "interleaved-unlabelled": Job(p2p_bytes=SHORT, schedule="Interleaved1F1B", num_chunks=2, labels=None),
    "replicas": Job(p2p_bytes=SHORT, pp=2, dp=3),
}


def faults_of(job: Job) -> dict[str, tuple[str, Faults]]:
    """Cause that must be named, and what is planted, by name."""
    chance = random.Random(5)  # noqa: S311 - planted noise is no secret
    num_actions = 2 * job.num_microbatches * job.num_chunks
    places = [(r, s, p) for r in range(job.world_size) for s in range(3) for p in range(num_actions)]
    longer = {place: 3_000_000 for place in places if chance.random() < 0.2}
    slow = "straggler" if job.dp >= 3 else "stage"
    return {
        "slow rank 1 ×1.3": (slow, Faults(slow_compute={1: 1.3}, clock_offset_ns=CLOCKS)),
        "links of rank 1 ×100": ("transfer", Faults(slow_link={1: 100}, clock_offset_ns=CLOCKS)),
        "host stall 60 ms, rank 1": (
            "host",
            Faults(host_stall_ns={(1, s, 6): 60_000_000 for s in (1, 2)}, clock_offset_ns=CLOCKS),
        ),
        "jitter": ("jitter", Faults(slow_action_ns=longer, clock_offset_ns=CLOCKS)),
    }


def bubble_of(job: Job, faults: Faults) -> tuple[Bubble, AttributionMs]:
    """The analysed bubble of a planted job and its attribution."""
    with tempfile.TemporaryDirectory() as folder:
        bubble = analyze(read(plant(job, faults, Path(folder)).traces)).review.bubble
    if bubble is None or bubble.attribution_ms is None:
        message = f"nothing was attributed for {job.schedule}"
        raise SystemExit(message)
    return bubble, bubble.attribution_ms


def main() -> None:
    """Print the table."""
    print(
        "| job | fault | truth (ms) | blame (ms) | worth (ms) | named first | replay error |\n|---|---|---|---|---|---|---|"
    )
    for name in sys.argv[1:] or JOBS:
        job = replace(JOBS[name], steps_ahead=0)
        _, clean = bubble_of(job, Faults(clock_offset_ns=CLOCKS))
        for title, (cause, faults) in faults_of(job).items():
            found, split = bubble_of(job, faults)
            truth = split.measured - clean.measured
            blame = getattr(split, cause) - getattr(clean, cause)
            worth = max((each.ms for each in found.worth if each.cause == cause), default=float("nan"))
            first = found.culprits[0]
            print(
                f"| {name} | {title} | {truth:.2f} | {blame:.2f} | {worth:.2f} | {first.cause} {first.culprit} | {found.replay_error:.2%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
