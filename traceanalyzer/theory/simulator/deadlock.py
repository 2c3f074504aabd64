"""Why an order can never end: who waits for whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from traceanalyzer.errors import InputError
from traceanalyzer.theory.simulator.program import ACTIVATION, GRADIENT, Program

_SHOWN = 8


class DeadlockError(InputError):
    """An order can never end: some rank waits for what cannot come before it goes on."""


def explain(program: Program, done: list[int], sending: Mapping[int, int] | None = None) -> DeadlockError:
    """The error for ranks that stand still after `done[rank]` nodes; `sending` is whom a rank waits to send to."""
    lines = list(_lines(program, done, sending or {}))
    shown = "; ".join(lines[:_SHOWN]) + (f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")
    hint = "put every action behind the ones it needs"
    if sending:
        hint = "let sends run asynchronously, or batch a rank's send with the receive that its neighbour waits to serve"
    return DeadlockError(f"the order deadlocks: {shown}", hint)


def _lines(program: Program, done: list[int], sending: Mapping[int, int]) -> Iterator[str]:
    producers = {
        token: (rank, index)
        for rank, nodes in enumerate(program.nodes)
        for index, node in enumerate(nodes)
        for token, _ in node.releases
    }
    for rank, nodes in enumerate(program.nodes):
        if rank in sending:
            yield f"rank {rank} waits to send the result of {_name(program, rank, done[rank] - 1)} to rank {sending[rank]}"
        elif done[rank] < len(nodes):
            for token in nodes[done[rank]].waits:
                reason = _reason(program, done, rank, token, producers)
                if reason:
                    yield f"rank {rank} waits to run {_name(program, rank, done[rank])} for {reason}"


def _reason(
    program: Program, done: list[int], rank: int, token: int, producers: Mapping[int, tuple[int, int]]
) -> str | None:
    """What a token is and where it would come from; None if it is there."""
    if token not in producers:
        return f"{_needed(token, program)}, which no rank runs"
    there, index = producers[token]
    if there == rank:
        return f"{_name(program, there, index)}, later on the same rank" if index >= done[there] else None
    state = "still ahead on" if index >= done[there] else "done on"
    return f"{_name(program, there, index)}, {state} rank {there}"


def _name(program: Program, rank: int, index: int) -> str:
    return "+".join(map(str, program.actions[rank][index]))


def _needed(token: int, program: Program) -> str:
    """The action that would release a token."""
    cell, kind = divmod(token, 3)
    microbatch, stage = divmod(cell, program.num_stages)
    if kind == ACTIVATION:
        return f"{stage - 1}F{microbatch}"
    if kind == GRADIENT:
        return f"{stage + 1}B{microbatch} or {stage + 1}I{microbatch}"
    return f"{stage}I{microbatch}"
