"""Ranks that the names of files tell, one by one or all together.

| writer | name | rank |
|---|---|---|
| torchtune, composer, Megatron-LM, Primus, Ray Train, torch's export | `rank0_trace.json`, `ep0-ba4-rank0.json`, `…-rank[1].…`, `rank_0/…` | the number after `rank` |
| vLLM | `dp0_pp0_tp3_dcp0_ep3_rank3.….pt.trace.json.gz` | the same |
| TensorBoard handler | `worker3.….pt.trace.json` | the number after `worker` |
| sglang | `….-TP-1-DP-0-PP-2.trace.json.gz` | PP × number of TP + TP, where the names fill that grid |
| launchers by node | `node1_local_rank3`, `node1-gpu3` | node × ranks of a node + local rank, where the names fill that grid |
| Slurm, mpirun | `procid3`, `task3`, `job812.3` | the number after the word, or the one that counts from 0 |
| TensorRT-LLM, DeepSpeed, own loops | `trace-0.json`, `trace_3.json`, `gpu3.json` | the one number that counts from 0 over all files |

Numbers of steps, epochs and processes and time stamps are not ranks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

_NAME_RANK = re.compile(
    r"(?i)(?<![a-z])(?<!local[-_.])(?:global[-_]?rank|rank|worker|procid|task)[-_.=]?[\[(]?(\d{1,6})(?!\d)"
)
_SHORT_RANK = re.compile(r"(?i)(?:^|[-_.])r(\d{1,6})(?=[-_.])")
_NUMBER = re.compile(r"(\d+)")
_WORD = re.compile(r"(?i)([a-z]+(?:[-_]rank)?)[-_.=]?[\[(]?$")
_NOT_A_RANK = frozenset(
    ["step", "steps", "iter", "iteration", "epoch", "ep", "ba", "batch", "cycle", "it", "pid", "version", "v"]
)
_GRIDS = (
    ("pp", "tp"),
    ("node", "local_rank"),
    ("node", "rank"),
    ("node", "gpu"),
    ("host", "gpu"),
    ("node", "device"),
    ("dp", "tp"),
)
"""Two roles, the outer first, that number ranks together."""
_ALONE = ("tp", "dp", "gpu", "device", "cuda", "local_rank", "trace", "profile", "kineto", "process", "proc")
_MAX_RANK = 1 << 20


def rank_in_name(file: str) -> int | None:
    """The rank that a file's name tells, else the folder it lies in: `rank3`, `rank[3]`, `worker3`, `x_r3_y`."""
    path = PurePosixPath(file.replace("\\", "/"))
    for part in (path.name, path.parent.name):
        match = _NAME_RANK.search(part) or _SHORT_RANK.search(part)
        if match:
            return int(match[1])
    return None


def ranks_in_names(files: Sequence[str]) -> dict[str, int]:
    """Ranks by file where the names are alike but for numbers, and these count ranks; else empty."""
    names = [_tail(file) for file in files]
    pieces = [_NUMBER.split(name) for name in names]
    if len(files) < 2 or len({tuple(piece[::2]) for piece in pieces}) != 1:
        return {}
    slots = _slots(pieces)
    ranks = _by_grid(slots) or _by_count(slots, len(files))
    return dict(zip(files, ranks, strict=True)) if ranks else {}


def proposed(files: Sequence[str], ranks: Mapping[str, int] | None = None) -> str:
    """A rank map to give, as text: by `ranks` where they are known, else in the order of names."""
    known = ranks or {file: number for number, file in enumerate(sorted(files, key=_natural))}
    names = {PurePosixPath(file).name for file in files}
    short = len(names) == len(files)
    pairs = [f'"{PurePosixPath(f).name if short else f}": {known[f]}' for f in sorted(files, key=lambda f: known[f])]
    return "{" + ", ".join(pairs) + "}"


def _natural(file: str) -> list[tuple[int, int, str]]:
    """Numbers in names count as numbers: host_9 before host_10."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in _NUMBER.split(file) if p]


def _tail(file: str) -> str:
    path = PurePosixPath(file.replace("\\", "/"))
    return f"{path.parent.name}/{path.name}"


def _slots(pieces: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Numbers of every file that vary between files, by the word before them; what is not a rank is left out."""
    found: dict[str, list[int]] = {}
    for at in range(1, len(pieces[0]), 2):
        values = [piece[at] for piece in pieces]
        if len(set(values)) < 2 or any(len(value) > 6 for value in values):
            continue
        before = "".join(pieces[0][:at])
        match = _WORD.search(before)
        word = match[1].lower().replace("-", "_") if match else ""
        if word not in _NOT_A_RANK:
            found[word if word not in found else f"{word}@{at}"] = [int(value) for value in values]
    return found


def _by_grid(slots: Mapping[str, list[int]]) -> list[int] | None:
    """Outer × number of inner + inner, where the names fill the grid."""
    for outer, inner in _GRIDS:
        rows, columns = slots.get(outer), slots.get(inner)
        if rows is None or columns is None:
            continue
        width, height = max(columns) + 1, max(rows) + 1
        cells = set(zip(rows, columns, strict=True))
        if len(cells) == len(rows) == width * height and width * height < _MAX_RANK:
            return [row * width + column for row, column in zip(rows, columns, strict=True)]
    return None


def _by_count(slots: Mapping[str, list[int]], count: int) -> list[int] | None:
    """The numbers that count the files from 0; after a word that means a rank any run of numbers."""
    runs = {
        word: values
        for word, values in slots.items()
        if len(set(values)) == count and max(values) - min(values) == count - 1
    }
    counting = [values for values in runs.values() if min(values) == 0]
    named = [values for word, values in runs.items() if word in _ALONE]
    if len(counting) == 1:
        return counting[0]
    return named[0] if len(named) == 1 else None
