"""Why an order can never end: who waits for whom."""

from __future__ import annotations

from traceanalyzer.errors import InputError
from traceanalyzer.schedule import Action
from traceanalyzer.theory.program import ACTIVATION, GRADIENT, Program

_SHOWN = 8


class DeadlockError(InputError):
    """An order can never end: some action waits for one that cannot run before it."""


def explain(program: Program, done: list[int]) -> DeadlockError:
    """The error for ranks that stand still after `done[rank]` nodes."""
    producers = {
        token: (rank, index)
        for rank, nodes in enumerate(program.nodes)
        for index, node in enumerate(nodes)
        for token, _ in node.releases
    }
    blocked: list[str] = []
    for rank, nodes in enumerate(program.nodes):
        if done[rank] == len(nodes):
            continue
        actions = "+".join(map(str, program.actions[rank][done[rank]]))
        for token in nodes[done[rank]].waits:
            if token not in producers:
                blocked.append(f"rank {rank} waits to run {actions} for {_needed(token, program)}, which no rank runs")
                continue
            there, index = producers[token]
            if index >= done[there]:
                wanted = "+".join(map(str, program.actions[there][index]))
                where = "later on the same rank" if there == rank else f"still ahead on rank {there}"
                blocked.append(f"rank {rank} waits to run {actions} for {wanted}, {where}")
    shown = "; ".join(blocked[:_SHOWN]) + (f"; and {len(blocked) - _SHOWN} more" if len(blocked) > _SHOWN else "")
    return DeadlockError(
        f"the order deadlocks: {shown}", "put every action behind the ones it needs; the first rank named shows where"
    )


def _needed(token: int, program: Program) -> str:
    cell, kind = divmod(token, 3)
    microbatch, stage = divmod(cell, program.num_stages)
    if kind == ACTIVATION:
        return str(Action.parse(f"{stage - 1}F{microbatch}"))
    if kind == GRADIENT:
        return f"{stage + 1}B{microbatch} or {stage + 1}I{microbatch}"
    return f"{stage}I{microbatch}"
