"""Real paced pairs: one stage computes 10 to 30% longer, and clean repeats; what `compare` says of both.

    PYTHONPATH=. python benchmarks/accuracy/paced_pairs.py JOURNAL [--pairs 20] [--seconds 230]
    PYTHONPATH=. python benchmarks/accuracy/paced_pairs.py JOURNAL --count

Every pair is three jobs of two or three processes on gloo: a base, the same again, and one with a stage that computes longer.
Truth is what 1F1B gives: every microbatch passes the slow stage once, so the step grows by all of them times the excess. The
journal takes one line for each pair and is gone on with, so that a piece of the pairs can be run whenever the machine is quiet;
no pair is begun that would end later than `--seconds`. `--count` counts what the journal holds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.comparison.compare import compare
from traceanalyzer.comparison.side import Side

FORWARD_MS, BACKWARD_MS, MICROBATCHES, STEPS = 30, 60, 5, 5
FACTORS = (1.1, 1.15, 1.2, 1.25, 1.3)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A pair, and what was said of it."""

    number: int
    ranks: int
    stage: int
    factor: float
    truth_ms: float
    distorted: list[bool]
    """Of the base, the repeat and the slow run."""
    slow: str
    """Verdict on the slow run; likewise on the repeat."""
    clean: str
    is_named: bool
    """The slow stage is the first change."""
    sized_ms: float
    change_ms: float
    limit_ms: float
    clean_change_ms: float
    clean_limit_ms: float
    sentences: list[str]


def launched(folder: Path, name: str, ranks: int, *options: str) -> Side:
    """One job, launched and analysed."""
    job = ["pipeline", "--ranks", ranks, "--compute", "paced", "--microbatches", MICROBATCHES, "--steps", STEPS]
    times = ["--forward-ms", FORWARD_MS, "--backward-ms", BACKWARD_MS, "--out", folder / name]
    command = [sys.executable, "-m", "traceanalyzer", "run", *map(str, [*job, *times]), *options]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    found = analyze(read(folder / name))
    return Side(name, found.review, found.tables)


def pair(number: int) -> Row:
    """Three jobs, and what is said of them."""
    ranks, factor = 2 + number % 2, FACTORS[number % len(FACTORS)]
    stage = number // 2 % ranks
    with tempfile.TemporaryDirectory() as place:
        seeds = [("--seed", str(3 * number + each)) for each in range(3)]
        fault = ("--fault", f"slow_stage:stage={stage},factor={factor}")
        base, again = (launched(Path(place), name, ranks, *seed) for name, seed in zip("ab", seeds[:2], strict=True))
        slow = launched(Path(place), "c", ranks, *seeds[2], *fault)
    clean, changed = compare(base, [again, slow]).pairs
    first = changed.changes[0]
    return Row(
        number=number, ranks=ranks, stage=stage, factor=factor,
        truth_ms=MICROBATCHES * (FORWARD_MS + BACKWARD_MS) * (factor - 1),
        distorted=[side.review.validity.verdict == "distorted" for side in (base, again, slow)],
        slow=changed.verdict, clean=clean.verdict,
        is_named=(first.kind, first.ranks) == ("stage", [stage]), sized_ms=first.change_ns / 1e6,
        change_ms=_ms(changed.change_ns), limit_ms=_ms(changed.limit_ns),
        clean_change_ms=_ms(clean.change_ns), clean_limit_ms=_ms(clean.limit_ns),
        sentences=[*changed.sentences, *clean.sentences],
    )  # fmt: skip


def _ms(ns: int | None) -> float:
    return (ns or 0) / 1e6


def counted(rows: list[Row]) -> str:
    """What the pairs add up to."""
    sized = [abs(row.sized_ms / row.truth_ms - 1) for row in rows if row.is_named]
    counts = {
        "pairs": len(rows),
        "slow stage named first": sum(row.is_named for row in rows),
        "of these sized within 5%": sum(error <= 0.05 for error in sized),
        "called slower": sum(row.slow == "slower" for row in rows),
        "called unknown, a run being disturbed": sum(row.slow == "unknown" for row in rows),
        "called noise": sum(row.slow == "noise" for row in rows),
        "repeats called noise": sum(row.clean == "noise" for row in rows),
        "repeats called unknown": sum(row.clean == "unknown" for row in rows),
        "false alarms on repeats": sum(row.clean in ("slower", "faster") for row in rows),
        "runs distorted": sum(sum(row.distorted) for row in rows),
    }
    worst = f"worst size {max(sized):.1%}" if sized else ""
    return "\n".join([*(f"{name}: {number}" for name, number in counts.items()), worst])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--count", action="store_true")
    asked = parser.parse_args()
    lines = asked.journal.read_bytes().splitlines() if asked.journal.exists() else []
    rows = [msgspec.json.decode(line, type=Row) for line in lines]
    begun, longest = time.monotonic(), 0.0
    while not asked.count and len(rows) < asked.pairs and time.monotonic() - begun + longest < asked.seconds:
        start = time.monotonic()
        rows.append(pair(len(rows)))
        longest = max(longest, time.monotonic() - start)
        with asked.journal.open("ab") as file:
            file.write(msgspec.json.encode(rows[-1]) + b"\n")
        print(rows[-1], flush=True)
    print(counted(rows))


if __name__ == "__main__":
    main()
