"""Which rows of different ranks are one collective or one message: tiny tables."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from traceanalyzer.schema import ACTIONS, EVENTS, KERNELS, conform
from traceanalyzer.schema import RANKS as RANKS_SCHEMA
from traceanalyzer.tables.communication.calls import calls
from traceanalyzer.tables.communication.device_collectives import device_communication
from traceanalyzer.tables.communication.linked import linked_calls
from traceanalyzer.tables.communication.matching import match_collectives, match_messages
from traceanalyzer.tables.computation.kernels import kernels
from traceanalyzer.tables.experts.directions import with_directions

RANKS = pl.Series([0, 1])


def collectives(*rows: tuple, group: str = "0,1") -> pl.DataFrame:
    """Rows of rank, step, order, kind, bytes, communicator, sequence number."""
    columns = ["rank", "step", "order_ns", "kind", "send_bytes", "communicator", "sequence_number"]
    frame = pl.DataFrame(
        rows, schema=columns, orient="row",
        schema_overrides={"communicator": pl.UInt64, "sequence_number": pl.Int64, "step": pl.Int32, "rank": pl.Int32},
    )  # fmt: skip
    return frame.with_columns(pl.lit(group).alias("group"), pl.lit("0").alias("pg_name"))


def pairs(matched: pl.DataFrame) -> set[tuple]:
    """Orders of the two ranks that were joined."""
    joined = matched.filter(pl.col("match").is_not_null()).group_by("match").agg(pl.col("order_ns").sort_by("rank"))
    return {tuple(orders) for orders in joined["order_ns"].to_list()}


def test_the_communicators_number_joins_whatever_the_order() -> None:
    big = 10_159_970_886_766_084_423  # beyond int64
    rows = collectives(
        (0, 1, 0, "all_reduce", 8, big, 1), (0, 1, 1, "all_reduce", 8, 7, 2), (1, 1, 5, "all_reduce", 8, big, 1)
    )
    matched = match_collectives(rows, RANKS)
    assert pairs(matched) == {(0, 5), (1,)}
    assert matched.filter(order_ns=1)["unmatched"].item() == "the part of a captured member is missing"
    assert set(matched["match_basis"].cast(pl.String)) == {"communicator_id"}


def test_sequence_numbers_join_over_a_truncated_head() -> None:
    rows = collectives(
        *[(0, None, i, "all_gather", 8, None, 100 + i) for i in range(4)], (1, None, 9, "all_gather", 8, None, 103)
    )
    assert pairs(match_collectives(rows, RANKS)) == {(0,), (1,), (2,), (3, 9)}


def test_order_counts_from_the_end_of_the_step() -> None:
    rows = collectives(
        *[(0, 1, i, kind, 8, None, None) for i, kind in enumerate(["all_reduce", "all_gather", "all_reduce"])],
        *[(1, 1, i, kind, 8, None, None) for i, kind in enumerate(["all_gather", "all_reduce"], start=11)],
    )
    assert pairs(match_collectives(rows, RANKS)) == {(0,), (1, 11), (2, 12)}


def test_from_the_first_disagreement_backwards_nothing_is_claimed() -> None:
    rows = collectives(
        *[
            (0, 1, i, kind, 8, None, None)
            for i, kind in enumerate(["all_reduce", "all_gather", "all_reduce", "barrier"])
        ],
        *[
            (1, 1, 10 + i, kind, 8, None, None)
            for i, kind in enumerate(["all_reduce", "broadcast", "all_reduce", "barrier"])
        ],
    )
    matched = match_collectives(rows, RANKS)
    assert pairs(matched) == {(2, 12), (3, 13)}
    lost = matched.filter(pl.col("match").is_null())
    assert set(lost["unmatched"]) == {"members disagree on the order of calls"}
    assert lost.height == 4


def test_equal_kinds_of_unequal_bytes_are_a_drift_except_for_all_to_alls() -> None:
    sizes = [(0, 1, 0, 8), (1, 1, 10, 16)]
    reduced = collectives(*[(rank, step, at, "all_reduce", size, None, None) for rank, step, at, size in sizes])
    exchanged = collectives(*[(rank, step, at, "all_to_all", size, None, None) for rank, step, at, size in sizes])
    assert pairs(match_collectives(reduced, RANKS)) == set()
    assert pairs(match_collectives(exchanged, RANKS)) == {(0, 10)}


def test_groups_of_the_same_ranks_but_other_names_are_apart() -> None:
    rows = collectives((0, 1, 0, "all_reduce", 8, None, 1), (1, 1, 10, "all_reduce", 8, None, 1)).with_columns(
        pl.Series("pg_name", ["3", "4"])
    )
    assert pairs(match_collectives(rows, RANKS)) == {(0,), (10,)}


def test_steps_are_apart_and_rows_without_step_or_group_have_their_reason() -> None:
    rows = collectives(
        (0, 1, 0, "all_reduce", 8, None, None),
        (1, 2, 10, "all_reduce", 8, None, None),
        (1, None, 5, "all_reduce", 8, None, None),
    )
    matched = match_collectives(rows, RANKS)
    assert pairs(matched) == {(0,), (10,)}
    assert matched.filter(order_ns=5)["unmatched"].item() == "launched before the capture or outside its steps"
    unknown = match_collectives(rows.with_columns(pl.lit(None, pl.String).alias("group")), RANKS)
    assert unknown.filter(order_ns=0)["unmatched"].item() == "group unknown"


def test_missing_ranks_are_distinguished_from_missing_parts() -> None:
    rows = collectives((0, 1, 0, "all_reduce", 8, None, 1), (1, 1, 1, "all_reduce", 8, None, 1), group="0,1,2")
    assert set(match_collectives(rows, pl.Series([0, 1]))["unmatched"]) == {"members were not captured"}
    assert set(match_collectives(rows, pl.Series([0, 1, 2]))["unmatched"]) == {
        "the part of a captured member is missing"
    }


def messages(*rows: tuple) -> pl.DataFrame:
    """Rows of rank, direction, peer, step, order, bytes."""
    frame = pl.DataFrame(
        rows, schema=["rank", "direction", "peer", "step", "order_ns", "bytes"], orient="row",
        schema_overrides={"peer": pl.Int32, "step": pl.Int32, "rank": pl.Int32},
    )  # fmt: skip
    return frame.with_columns(pl.lit("0,1").alias("group"), pl.lit("0").alias("pg_name"))


def test_the_last_send_meets_the_last_receive() -> None:
    rows = messages(
        *[(0, "send", 1, 1, i, 4) for i in range(3)],
        *[(1, "receive", 0, 1, 10 + i, 4) for i in range(2)],
        (1, "send", 0, 1, 20, 4),
        (0, "receive", 1, 1, 30, 4),
    )
    matched = match_messages(rows, RANKS)
    assert pairs(matched) == {(1, 10), (2, 11), (30, 20)}
    assert matched.filter(order_ns=0)["unmatched"].item() == "the other end is missing"


def test_sizes_that_differ_end_what_is_claimed() -> None:
    rows = messages(
        *[(0, "send", 1, 1, i, size) for i, size in enumerate([4, 8, 4])],
        *[(1, "receive", 0, 1, 10 + i, size) for i, size in enumerate([4, 4, 4])],
    )
    matched = match_messages(rows, RANKS)
    assert pairs(matched) == {(2, 12)}
    assert set(matched.filter(pl.col("match").is_null())["unmatched"]) == {
        "ends disagree on the sizes of their messages"
    }


def test_a_peer_that_was_not_captured_is_no_missing_message() -> None:
    rows = messages((0, "send", 5, 1, 0, 4), (0, "send", None, 1, 1, 4))
    matched = match_messages(rows, RANKS)
    assert matched.sort("order_ns")["unmatched"].to_list() == ["the other end was not captured", "peer unknown"]


def expert_kernel(rank: int, name: str, start: int, end: int) -> list[dict[str, Any]]:
    """A kernel that no call of the process group launched, with its launch."""
    common = {"rank": rank, "cycle": 0, "ph": "X", "correlation": start}
    return [
        common | {"category": "kernel", "name": name, "start_ns": start, "duration_ns": end - start, "stream": 9},
        common | {"category": "cuda_runtime", "name": "cudaLaunchKernel", "start_ns": start - 20, "duration_ns": 5},
    ]


def exchanged(groups: list[dict[str, Any]], late_ns: int = 0) -> pl.DataFrame:
    """Two ranks that dispatch and combine twice; rank 1's capture lacks the first dispatch and is `late_ns` behind."""
    names = [f"void dpsk::ep::internode::{part}<false, 8>(int4*, float*)" for part in ("dispatch", "combine")] * 2
    events = [
        row
        for rank, first in ((0, 0), (1, 1))
        for place, name in list(enumerate(names))[first:]
        for row in expert_kernel(rank, name, 100 + 100 * place + rank * late_ns, 160 + 100 * place + rank * late_ns)
    ]
    table = conform(pl.DataFrame(events, infer_schema_length=None).with_row_index("index"), EVENTS)
    rows = [{"rank": r, "cycle": 0, "world_size": 4, "process_groups": json.dumps(groups)} for r in range(2)]
    ranks = conform(pl.DataFrame(rows), RANKS_SCHEMA)
    on_device = kernels(table)
    return device_communication(linked_calls(on_device, calls(table, ranks)), ranks, None)[0]


def test_expert_kernels_without_arguments_are_matched_by_order_in_the_one_expert_group() -> None:
    group = {"pg_name": "7", "pg_desc": "mesh_ep", "pg_size": 2, "ranks": [0, 1]}
    table = exchanged(
        [group, {"pg_name": "0", "pg_desc": "default_pg", "pg_size": 4, "ranks": [0, 1, 2, 3]}], late_ns=30
    )
    assert set(table["group"]) == {"0,1"}
    assert table["role"].cast(pl.String).unique().to_list() == ["ep"]
    lost = table.filter(pl.col("unmatched").is_not_null())
    assert lost.select("rank", "start_ns", "unmatched").rows() == [(0, 100, "the part of a captured member is missing")]
    starts = table.join(lost, on="match", how="anti").group_by("match").agg(pl.col("start_ns").sort_by("rank"))
    assert {tuple(pair) for pair in starts["start_ns"].to_list()} == {(200, 230), (300, 330), (400, 430)}


@pytest.mark.parametrize("names", [[], ["mesh_ep", "EXPERT_MODEL_PARALLEL_GROUP"]])
def test_without_one_expert_group_their_group_is_unknown(names: list[str]) -> None:
    sizes = ([0, 1], [0, 1, 2, 3])
    listed = [
        {"pg_name": name, "pg_desc": name, "pg_size": len(members), "ranks": members}
        for name, members in zip(names, sizes, strict=False)
    ]
    table = exchanged(listed)
    assert table["group"].null_count() == table.height == 7
    assert set(table["unmatched"]) == {"group unknown"}
    assert set(with_directions(table, pl.DataFrame(schema=KERNELS), pl.DataFrame(schema=ACTIONS))["direction"]) == {
        "other"
    }
