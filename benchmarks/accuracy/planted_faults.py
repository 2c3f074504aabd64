"""One fault at a time planted into GPU traces: what its clean twin says it costs, what blame and worth say.

    PYTHONPATH=.:tests/support python benchmarks/accuracy/planted_faults.py [JOB ...]

Prints one row per job and planting. The clean twin is the same job without it, measured the same way. Clocks are up to 3 ms
apart. Blame and worth are of the causes in the fault's row, each less the twin's own; `others` is what all other causes
changed by, so that blame + others = truth but for what the ideal itself changed by.

Jitter makes a quarter of every rank's forwards and backwards longer, in every step, so that no median moves. *Chance*
jitter strikes each action with probability 0.2: where it strikes half of a rank's actions of a kind, their median moves, and
by the definition (`docs/definitions.md`) that rank is a straggler in this capture; its row counts both causes.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from planted import Faults, Job, orders, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.review import AttributionMs, Bubble

CLOCKS = {1: 3_000_000, 2: -3_000_000}
SHORT = 1 << 20
LONGER_NS = 3_000_000
CAUSES = [name for name in AttributionMs.__struct_fields__ if name not in ("measured", "ideal", "schedule")]
JOBS = {
    "1F1B": Job(p2p_bytes=SHORT),
    "1F1B-unlabelled": Job(p2p_bytes=SHORT, labels=None, coalesced=True),
    "GPipe": Job(p2p_bytes=SHORT, schedule="GPipe", labels="own"),
    "GPipe-unlabelled": Job(p2p_bytes=SHORT, schedule="GPipe", labels=None),
    "interleaved": Job(p2p_bytes=SHORT, schedule="Interleaved1F1B", num_chunks=2),
    "interleaved-unlabelled": Job(p2p_bytes=SHORT, schedule="Interleaved1F1B", num_chunks=2, labels=None),
    "replicas": Job(p2p_bytes=SHORT, pp=2, dp=3),
}


@dataclass(frozen=True, slots=True)
class Planting:
    """What is planted, and what must be named for it, the largest first."""

    causes: tuple[str, ...]
    faults: Faults


def plantings_of(job: Job) -> dict[str, Planting]:
    """One fault at a time, and two at once, by name."""
    slow = "straggler" if job.dp >= 3 else "stage"
    stall = {(1, step, 6): 60_000_000 for step in (1, 2)}
    clocks = Faults(clock_offset_ns=CLOCKS)
    chance = random.Random(5)  # noqa: S311 - planted noise is no secret
    struck = {place: LONGER_NS for place in sorted(places_of(job)) if chance.random() < 0.2}
    found = {
        "slow rank 1 ×1.3": Planting((slow,), replace(clocks, slow_compute={1: 1.3})),
        "links of rank 1 ×100": Planting(("transfer",), replace(clocks, slow_link={1: 100})),
        "host stall 60 ms, rank 1": Planting(("host",), replace(clocks, host_stall_ns=stall)),
        "jitter": Planting(("jitter",), replace(clocks, slow_action_ns=jitter_of(job))),
        "chance jitter": Planting(("jitter", slow), replace(clocks, slow_action_ns=struck)),
        "slow rank 1 ×1.3 + stall 60 ms, rank 1": Planting(
            ("host", slow), replace(clocks, slow_compute={1: 1.3}, host_stall_ns=stall)
        ),
        "slow rank 1 ×2.5 + stall 60 ms, rank 1": Planting(
            (slow, "host"), replace(clocks, slow_compute={1: 2.5}, host_stall_ns=stall)
        ),
    }
    return {name: planting for name, planting in found.items() if name != "chance jitter" or job.dp >= 3}


def places_of(job: Job) -> Iterator[tuple[int, int, int]]:
    """Rank, step and position of every action, of the step before the capture as well."""
    for rank in range(job.world_size):
        for step in range(job.num_steps + 1):
            for position in range(len(orders(job)[rank // job.dp])):
                yield rank, step, position


def jitter_of(job: Job) -> dict[tuple[int, int, int], int]:
    """A quarter of the actions of each rank, step and phase, chosen by chance."""
    chance = random.Random(5)  # noqa: S311 - planted noise is no secret
    alike: dict[tuple[int, int, str], list[tuple[int, int, int]]] = {}
    for rank, step, position in places_of(job):
        phase = orders(job)[rank // job.dp][position][0]
        alike.setdefault((rank, step, phase), []).append((rank, step, position))
    return {place: LONGER_NS for places in alike.values() for place in chance.sample(places, len(places) // 4)}


def bubble_of(job: Job, faults: Faults) -> tuple[Bubble, AttributionMs]:
    """The analysed bubble of a planted job and its attribution."""
    with tempfile.TemporaryDirectory() as folder:
        bubble = analyze(read(plant(job, faults, Path(folder)).traces)).review.bubble
    if bubble is None or bubble.attribution_ms is None:
        message = f"nothing was attributed for {job.schedule}"
        raise SystemExit(message)
    return bubble, bubble.attribution_ms


def row_of(job: Job, planting: Planting, clean: AttributionMs) -> tuple[str, ...]:
    """Truth, blame of the causes, of all others, worth, who is named, and the replay's error."""
    found, split = bubble_of(job, planting.faults)
    blame = [getattr(split, cause) - getattr(clean, cause) for cause in planting.causes]
    others = sum(getattr(split, cause) - getattr(clean, cause) for cause in CAUSES if cause not in planting.causes)
    worth = [max((each.ms for each in found.worth if each.cause == cause), default=0.0) for cause in planting.causes]
    named = list(dict.fromkeys((each.cause, each.culprit) for each in found.culprits))[: len(planting.causes)]
    return (
        f"{split.measured - clean.measured:.2f}",
        " + ".join(f"{ms:.2f}" for ms in blame),
        f"{others:+.2f}",
        ", ".join(f"{ms:.2f}" for ms in worth),
        ", ".join(f"{cause} {rank}" for cause, rank in named),
        f"{found.replay_error:.2%}",
    )


def main() -> None:
    """Print the table."""
    print("| job | fault | truth (ms) | blame (ms) | others | worth of each | named, in order | replay error |")
    print("|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or JOBS:
        job = replace(JOBS[name], steps_ahead=0)
        _, clean = bubble_of(job, Faults(clock_offset_ns=CLOCKS))
        for title, planting in plantings_of(job).items():
            print("|", " | ".join((name, title, *row_of(job, planting, clean))), "|", flush=True)


if __name__ == "__main__":
    main()
