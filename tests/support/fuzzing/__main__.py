"""`python -m fuzzing readers|whole|page --count N --first M --workers W`; `fuzzing write --first N --folder F` writes one mutant."""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # tiny inputs; set before Polars is imported

from fuzzing.campaign import files_of, run, told, written
from fuzzing.seeds import seeds
from fuzzing.supervised import supervised
from fuzzing.targets import TARGETS

_MEMORY = 8 << 30
"""Address space of a worker: a mutant that asks for more fails in it and is a find."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzzing")
    parser.add_argument("target", choices=[*TARGETS, "write"])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--workers", type=int, default=0, help="processes, each on a core; 0: all in this one")
    parser.add_argument("--journal", type=Path, help="a file that gets a line of figures for every 500 mutants")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--mark", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.target == "write":
        with tempfile.TemporaryDirectory() as scratch:
            written(files_of(asked.first, seeds(Path(scratch))), asked.folder)
        return 0
    numbers = range(asked.first, asked.first + asked.count)
    if asked.workers:
        figures = supervised(asked.target, numbers, workers=asked.workers, journal=asked.journal)
    else:
        _settle(asked.core)
        figures = run(asked.target, numbers, budget_s=asked.seconds, mark=asked.mark)
    if asked.figures:
        asked.figures.write_text(json.dumps(figures.as_dict()))
    print(told(figures))  # noqa: T201 - figures are what it is for
    return 1 if figures.finds else 0


def _settle(core: int | None) -> None:
    """One core: Polars hands every step to its only thread, which else wakes up on another core each time."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    if os.access("/dev/shm", os.W_OK):  # noqa: S108 - memory in place of a disk; the folder in it is made by mkdtemp
        tempfile.tempdir = "/dev/shm"  # noqa: S108
    gc.freeze()  # what is loaded never becomes garbage
    gc.set_threshold(100_000, 50, 1000)


if __name__ == "__main__":
    sys.exit(main())
