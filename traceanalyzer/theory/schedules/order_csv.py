"""Orders as CSV in the format of PyTorch's pipelining runtime: one row per rank, one cell per op, empty cells idle.

Files that hold communication too (`compute_comms`) are read as well: what is not a computation is left out, because the
simulation derives messages from the computations.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.schedule import Op, RankOrders, actions_of, parse_op

_NO_COMPUTATION = re.compile(r"^\d+(UNSHARD|RESHARD|REDUCE_GRAD|SEND_F|RECV_F|SEND_B|RECV_B)\d*$")
_MAX_CELL = 100


def read_orders(text: str, source: str = "the order") -> RankOrders:
    """Parse the orders of all ranks; `source` names the file in errors. Raises `InputError`."""
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), strict=True)]
    except csv.Error as error:
        raise InputError(f"{source}: {error}", "write one row per rank, cells separated by commas") from None
    orders = [[_op(cell, source, rank, column) for column, cell in _ops(row)] for rank, row in enumerate(rows)]
    if not any(orders):
        raise InputError(f"{source}: holds no action", "write one row per rank, for example 0F0,0F1,0B0,0B1")
    return orders


def _ops(row: Sequence[str]) -> list[tuple[int, str]]:
    return [(column, cell) for column, cell in enumerate(row) if cell and not _NO_COMPUTATION.match(cell)]


def _op(cell: str, source: str, rank: int, column: int) -> Op:
    try:
        return parse_op(cell)
    except UsageError as error:
        shown = cell if len(cell) <= _MAX_CELL else f"{cell[:_MAX_CELL]}…"
        raise InputError(f"{source}, row {rank + 1}, cell {column + 1}: '{shown}' is not an op", error.hint) from None


def write_orders(orders: RankOrders) -> str:
    """The orders as CSV text that PyTorch's runtime loads with `format="compute_only"`."""
    text = io.StringIO()
    csv.writer(text).writerows(orders)
    return text.getvalue()


def stage_ranks_of(orders: RankOrders) -> tuple[int, ...]:
    """The rank of every stage, from who computes on it. Raises `InputError` if ranks contradict each other."""
    ranks: dict[int, int] = {}
    for rank, ops in enumerate(orders):
        for action in (action for op in ops for action in actions_of(op)):
            if ranks.setdefault(action.stage, rank) != rank:
                raise InputError(
                    f"stage {action.stage} is computed on rank {ranks[action.stage]} and on rank {rank}",
                    "give every stage to one rank; number the stages of a second model copy on their own",
                )
    missing = [stage for stage in range(max(ranks, default=-1) + 1) if stage not in ranks]
    if missing:
        raise InputError(f"no rank computes on stage {missing[0]}", "number stages from 0 without gaps")
    return tuple(ranks[stage] for stage in range(len(ranks)))
