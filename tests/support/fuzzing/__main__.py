"""`python -m fuzzing readers|whole|page --count N --first M`; `--write N FOLDER` writes one mutant."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # tiny inputs; set before Polars is imported

from fuzzing.campaign import files_of, run, told, written
from fuzzing.seeds import seeds
from fuzzing.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzzing")
    parser.add_argument("target", choices=[*TARGETS, "write"])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--mark", type=Path)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.target == "write":
        with tempfile.TemporaryDirectory() as scratch:
            written(files_of(asked.first, seeds(Path(scratch))), asked.folder)
        return 0
    figures = run(asked.target, range(asked.first, asked.first + asked.count), budget_s=asked.seconds, mark=asked.mark)
    print(told(figures))  # noqa: T201 - figures are what it is for
    return 1 if figures.finds else 0


if __name__ == "__main__":
    sys.exit(main())
