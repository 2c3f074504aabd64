"""PyTorch execution traces beside profiler traces: they keep the split sizes that older profiler traces lack.

An execution trace (`torch.profiler.ExecutionTraceObserver`, schema 1.x) lists operators with their arguments and no
times. The folder `execution_traces` beside the traces is looked into; the rank is the last number of a file's name.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from traceanalyzer.regular_file import open_regular, regular_below

FOLDER = "execution_traces"
MAX_BYTES = 1 << 30
"""Decompressed size of one execution trace that is read."""
EXECUTION_EXCHANGES = pl.Schema(
    {
        "rank": pl.Int32,
        "position": pl.Int32,  # order of the all-to-all on the rank
        "send_splits": pl.List(pl.Int64),  # rows per member of the group
        "receive_splits": pl.List(pl.Int64),
        "send_bytes": pl.Int64,
        "receive_bytes": pl.Int64,
    }
)
_CALL = "c10d::alltoall_base_"


class _Node(msgspec.Struct):
    name: str = ""
    id: int = 0
    inputs: list[Any] = []


class _Document(msgspec.Struct):
    nodes: list[_Node] = []


def read_execution_exchanges(path: Path | str) -> pl.DataFrame:
    """All-to-alls with split sizes of every execution trace of a folder (`EXECUTION_EXCHANGES`).

    Empty if there are none. A file that is damaged, too large or no execution trace is left out: what is said of the
    others holds without it.
    """
    rows: list[dict[str, Any]] = []
    folder = Path(path) / FOLDER
    if folder.is_dir():
        for file, readable in regular_below(folder, "*.json*"):
            rows += _exchanges(file) if readable else ()
    return pl.DataFrame(rows, schema=EXECUTION_EXCHANGES, orient="row")


def _exchanges(file: Path) -> Iterator[dict[str, Any]]:
    numbers = re.findall(r"\d+", file.name.split(".")[0])
    document = _document(file) if numbers else None
    if document is None:
        return
    calls = sorted((node for node in document.nodes if node.name == _CALL), key=lambda node: node.id)
    for position, node in enumerate(calls):
        found = _splits(node.inputs)
        if found is not None:
            yield {"rank": int(numbers[-1]), "position": position, **found}


def _document(file: Path) -> _Document | None:
    try:
        with open_regular(file) as stream, gzip.open(stream) if file.suffix == ".gz" else stream as plain:
            content = plain.read(MAX_BYTES + 1)
        return msgspec.json.decode(content, type=_Document) if len(content) <= MAX_BYTES else None
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError, RecursionError):
        return None


def _splits(inputs: list[Any]) -> dict[str, Any] | None:
    """Of `alltoall_base_(output, input, group, output splits, input splits, ...)`; None without uneven lists.

    A tensor is written as [id, storage, offset, elements, bytes per element, device].
    """
    try:
        output, given, _, receive, send = inputs[:5]
        sizes = {"send_bytes": given[3] * given[4], "receive_bytes": output[3] * output[4]}
        lists = {"send_splits": [int(n) for n in send], "receive_splits": [int(n) for n in receive]}
    except (ValueError, TypeError, IndexError):
        return None
    return {**lists, **sizes} if send and len(send) == len(receive) else None
