"""One rank of a job that a file describes, under a plain torchrun on one node or several.

    torchrun --nproc-per-node 4 -m instrumented_runs --config job.toml --out runs/mine

`traceanalyzer run --config job.toml` starts the same job, and watches it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from instrumented_runs.launch import clear, holds_run
from instrumented_runs.nodes import NODE_FOLDER
from instrumented_runs.requests import make_request
from instrumented_runs.settle import settle
from traceanalyzer.errors import TraceAnalyzerError, UsageError


def main(arguments: list[str]) -> int:
    """Run this rank; the exit status. What makes no sense is reported by one rank of the node."""
    parser = argparse.ArgumentParser(prog="python -m instrumented_runs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", help="a kind of job or a preset")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="SETTING=VALUE")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--force", action="store_true")
    given = parser.parse_args(arguments)
    try:
        _run(given)
    except TraceAnalyzerError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            sys.stderr.write(f"error: {error.message}\nhint: {error.hint}\n")
        return 2
    return 0


def _run(given: argparse.Namespace) -> None:
    request = make_request(given.name, given.config, given.assignments)
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    out = given.out or Path("runs") / request.kind
    nodes, node = int(os.environ.get("GROUP_WORLD_SIZE", "1")), int(os.environ.get("GROUP_RANK", "0"))
    folder = out.absolute() if nodes == 1 else out.absolute() / NODE_FOLDER.format(node=node)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    settings, files = settle(request.kind, str(folder), request.compute or "auto", None, request.values, here)
    if settings.num_ranks != num_ranks:
        raise UsageError(
            f"the job has {settings.num_ranks} ranks, and {num_ranks} were started",
            f"start torchrun with {settings.num_ranks} processes in all",
        )
    from instrumented_runs.worker import work  # noqa: PLC0415 - torch takes seconds; what makes no sense is reported before

    def prepare() -> None:
        if holds_run(folder) and not given.force:
            raise UsageError(f"{folder}: holds an earlier run", "give another --out, or --force to replace it")
        clear(folder)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")

    work(request.kind, dataclasses.replace(settings, folder=str(folder)), prepare)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
