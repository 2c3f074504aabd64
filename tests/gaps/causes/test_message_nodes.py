"""Messages of devices as nodes: what they wait for, whom that is blamed on, and what is not taken for a message."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from traceanalyzer.gaps.causes.attribution import attribute
from traceanalyzer.gaps.causes.blame import Blamed, blame, with_duration_parts
from traceanalyzer.gaps.causes.graph import DependencyGraph, dependency_graph
from traceanalyzer.schema import ACTIONS, RECEIVES, conform, empty

MS = 1_000_000


def actions_of(*rows: str) -> pl.DataFrame:
    """Actions written `rank action start end launched`, in milliseconds."""
    parts = [row.split() for row in rows]
    frame = pl.DataFrame(
        [
            {"rank": int(rank), "step": 0, "stage": int(name[0]), "phase": name[1], "microbatch": int(name[2:]),
             "start_ns": int(start) * MS, "end_ns": int(end) * MS}
            for rank, name, start, end, _ in parts
        ]
    )  # fmt: skip
    launched = pl.Series("launched_ns", [int(row[4]) * MS for row in parts])
    return conform(frame, ACTIONS).with_columns(pl.lit(0, pl.Int32).alias("pipeline"), launched)


def message(match: int, send: tuple[int, int, int, int], receive: tuple[int, int, int, int], **more: Any) -> dict[str, Any]:  # fmt: skip
    """Ends written rank, posted, start, end, in milliseconds; every rank has one stream per direction."""
    row: dict[str, Any] = {"match": match, "step": 0}
    for way, (rank, posted, start, end) in (("send", send), ("receive", receive)):
        row |= {
            f"{way}_rank": rank, f"{way}_start_ns": start * MS, f"{way}_end_ns": end * MS, f"{way}_posted_ns": posted * MS,
            f"{way}_launched_ns": posted * MS, f"{way}_stream": way == "send", f"{way}_index": match, f"{way}_coalesced": False,
        }  # fmt: skip
    return row | more


# Two forwards on two stages, both backwards on the last one; rank 1's host stalls before its first forward (from 10 to
# 35), so its receive of the second message is posted late, and the first stage's second send stands in line.
STALLED = (
    "0 0F0 0 10 0", "0 0F1 10 20 1", "1 1F0 35 45 35", "1 1F1 46 56 37", "1 1B0 56 66 38", "1 1B1 66 76 39",
)  # fmt: skip
MESSAGES = [message(0, (0, 0, 10, 35), (1, 34, 34, 35)), message(1, (0, 1, 35, 46), (1, 36, 45, 46))]


def walked(messages: list[dict[str, Any]]) -> tuple[DependencyGraph, Blamed]:
    graph = dependency_graph(with_duration_parts(actions_of(*STALLED)), 2, pl.DataFrame(messages))
    return graph, blame(graph)


def split(found: Blamed) -> dict[tuple[str, int | None], int]:
    rows = found.attribution.select("cause", "culprit", "duration_ns").iter_rows()
    return {(cause, culprit): ns // MS for cause, culprit, ns in rows}


def test_a_message_waits_for_both_ends_and_the_message_before_it() -> None:
    graph, _ = walked(MESSAGES)
    names = ["0F0", "0F1", "1F0", "1F1"]
    needs = [[names[need] if need < 4 else need for need in each] for each in graph.messages.needs]
    # The second was posted when 1F0 had been launched, and stands behind the first (node 6) on both streams.
    assert needs == [["0F0"], ["0F1", 6, "1F0"]]
    assert graph.messages.awaited == {2: [6], 3: [7]}


def test_what_stands_in_line_behind_a_stalled_receiver_is_the_stalls() -> None:
    _, found = walked(MESSAGES)
    # Ideal: five actions of 10 in a row, 50; measured 76. The receive was launched 24 late; each message then took 1.
    assert found.measured_ns - found.ideal_ns == sum(split(found).values()) * MS
    assert split(found) == {("host", 1): 24, ("transfer", 0): 2}
    assert found.message_host_ns.tolist() == [24 * MS, 0]
    assert found.message_transfer_ns.tolist() == [1 * MS, 1 * MS]


def test_replay_moves_the_line_with_what_it_waits_for() -> None:
    actions = actions_of(*STALLED)
    found = attribute(actions, empty(RECEIVES), 2, pl.DataFrame(MESSAGES))
    assert found.worth.replay_error == 0
    saved = {(remedy.cause, remedy.rank): ns / MS for remedy, ns in found.worth.savings}
    # With the stall gone the first message goes at 10 and arrives at 11, the second at 22: 52 in all, 24 less.
    assert saved["host", 1] == pytest.approx(24)
    assert saved["transfer", 0] == pytest.approx(2)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([MESSAGES[0]], id="a message is missing"),
        pytest.param([message(0, (0, 1, 10, 35), (1, 34, 34, 35)), message(1, (0, 0, 35, 46), (1, 36, 45, 46))], id="orders differ"),
        pytest.param([message(0, (0, 0, 2, 9), (1, 34, 34, 35)), message(1, (0, 1, 11, 12), (1, 36, 45, 46))], id="sent before it was made"),
    ],
)  # fmt: skip
def test_what_contradicts_the_order_is_no_message(wrong: list[dict[str, Any]]) -> None:
    graph, found = walked(wrong)
    assert 0 not in graph.messages.awaited
    assert sum(split(found).values()) * MS == found.measured_ns - found.ideal_ns
