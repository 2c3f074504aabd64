"""Several runs on one command line, each of several files: `base/*.json : new/*.json`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traceanalyzer.comparison.side import Side
    from traceanalyzer.traces.input.discovery import Where

BETWEEN = ":"


def runs_of(paths: Sequence[str]) -> list[Where]:
    """The runs that are given: what colons divide, or without a colon every path alone.

    Raises `UsageError` if a colon leaves fewer than two runs.
    """
    from traceanalyzer.cli.options.reading import one_place
    from traceanalyzer.errors import UsageError

    if BETWEEN not in paths:
        return list(paths)
    groups = [list(group) for divides, group in groupby(paths, lambda path: path == BETWEEN) if not divides]
    if len(groups) < 2 or BETWEEN in (paths[0], paths[-1]):
        raise UsageError(
            "a colon divides runs, and one side of it is empty", "give files on both sides: base/*.json : new/*.json"
        )
    return [one_place(group) for group in groups]


def refuse_ranks_as_runs(runs: Sequence[Side]) -> None:
    """Raise `UsageError` if three runs or more are lone files of which two are different ranks in one folder."""
    from traceanalyzer.errors import UsageError

    if len(runs) < 3:
        return
    seen: dict[Path, Side] = {}
    for run in runs:
        path = Path(run.path)
        other = seen.setdefault(path.parent, run)
        if path.is_file() and Path(other.path).is_file() and not set(run.ranks) & set(other.ranks):
            raise UsageError(
                f"{other.path} and {run.path} are rank {other.ranks[0]} and rank {run.ranks[0]} in one folder, taken as two runs",
                "put a colon between the runs: base/*.json : new/*.json, or give their folders",
            )
