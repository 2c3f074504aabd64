"""Splits and bandwidths of single collectives, by hand and against published figures."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest

from traceanalyzer.measurements.communication.collectives import hidden_by_clocks, split_collectives
from traceanalyzer.schema import COLLECTIVES, conform

DATA = Path(__file__).parents[1] / "data"
ONE_HOST = 450e9


def members(
    kind: str, starts: list[int], ends: list[int], send: list[int], receive: list[int], **more: list
) -> pl.DataFrame:
    """One collective of all ranks 0 to n-1."""
    size = len(starts)
    return conform(
        pl.DataFrame(
            {
                "rank": list(range(size)), "step": [1] * size, "kind": [kind] * size, "start_ns": starts, "end_ns": ends,
                "send_bytes": send, "receive_bytes": receive, "match": [5] * size, "group": [",".join(map(str, range(size)))] * size,
                "num_members": [size] * size, "num_present": [size] * size, **more,
            }
        ),
        COLLECTIVES,
    )  # fmt: skip


def links(size: int, peak: float | None = ONE_HOST, hosts: list[str] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {"rank": list(range(size)), "host": hosts or ["a"] * size, "link_bytes_per_second": [peak] * size},
        schema_overrides={"rank": pl.Int32, "link_bytes_per_second": pl.Float64},
    )


def published() -> list[dict[str, str]]:
    lines = (DATA / "communication_bandwidth.csv").read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.mark.parametrize("row", published(), ids=lambda row: f"{row['source']}-{row['kind']}-{row['members']}")
def test_algorithm_and_bus_bandwidth_are_the_published_ones(row: dict[str, str]) -> None:
    size, duration = int(row["members"]), round(float(row["time_us"]) * 1000)
    send, receive = int(row["send_bytes"]), int(row["receive_bytes"])
    frame = members(row["kind"], [0] * size, [duration] * size, [send] * size, [receive] * size)
    split = split_collectives(frame, one_clock=True, links=links(size))
    assert split["algorithm_bytes_per_second"][0] / 1e9 == pytest.approx(float(row["algorithm_gb_per_s"]), rel=2e-5)
    assert split["bus_bytes_per_second"][0] / 1e9 == pytest.approx(float(row["bus_gb_per_s"]), rel=2e-5)
    assert split["link_share"][0] == pytest.approx(float(row["bus_gb_per_s"]) / 450, rel=2e-5)


def test_uneven_all_to_all_counts_the_larger_of_sent_and_received_less_the_own_chunk() -> None:
    frame = members(
        "all_to_all", [0, 0], [100, 100], [600, 400], [500, 500],
        send_splits=[[2, 4], [3, 1]], receive_splits=[[2, 3], [4, 1]],
    )  # fmt: skip
    split = split_collectives(frame, one_clock=True, links=links(2)).sort("rank")
    # rank 0 sends 4 of 6 rows (400 B) away and receives 3 of 5 (300 B); rank 1 sends 300 B and receives 400 B
    assert (split["bus_bytes_per_second"] * 100e-9).to_list() == pytest.approx([400, 400])


def test_links_between_hosts_have_no_peak_and_unknown_hosts_neither() -> None:
    frame = members("all_reduce", [0, 0], [100, 100], [800, 800], [800, 800])
    apart = split_collectives(frame, one_clock=True, links=links(2, hosts=["a", "b"]))
    assert apart["between_hosts"].all()
    assert apart["link_share"].null_count() == 2
    assert apart["bus_bytes_per_second"].null_count() == 0
    unknown = split_collectives(frame, one_clock=True, links=links(2, peak=None))
    assert unknown["link_share"].null_count() == 2
    assert split_collectives(frame, one_clock=True)["between_hosts"].null_count() == 2


ORACLE = list(
    csv.DictReader(
        line
        for line in (DATA / "exchange_splits.csv").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
)


@pytest.mark.parametrize("case", sorted({row["case"] for row in ORACLE}))
def test_waits_by_clock_are_the_oracles(case: str) -> None:
    rows = [row for row in ORACLE if row["case"] == case]
    starts, ends = [int(r["start"]) for r in rows], [int(r["end"]) for r in rows]
    unequal = [100 * (i + 1) for i in range(len(rows))]
    split = split_collectives(members("all_to_all", starts, ends, unequal, unequal[::-1]), one_clock=True).sort("rank")
    assert split["basis"].cast(pl.String).to_list() == ["clock"] * len(rows)
    assert split["wait_ns"].to_list() == [int(r["wait"]) for r in rows]
    assert split["transfer_ns"].to_list() == [int(r["wire"]) for r in rows]


def test_equal_bytes_need_no_clock() -> None:
    frame = members("all_reduce", [0, 40_000], [150, 40_050], [8, 8], [8, 8])
    split = split_collectives(frame, one_clock=False).sort("rank")
    assert split["wait_ns"].to_list() == [100, 0]
    assert set(split["basis"].cast(pl.String)) == {"durations"}
    assert split["wait_clock_ns"].null_count() == 2


def test_uneven_bytes_without_a_clock_are_modelled_from_the_peak_and_marked() -> None:
    frame = members(
        "all_to_all", [0, 0], [2_000, 2_000], [900_000] * 2, [900_000] * 2,
        send_splits=[[1, 1], [2, 1]], receive_splits=[[1, 2], [1, 1]],
    )  # fmt: skip
    split = split_collectives(frame, one_clock=False, links=links(2))
    assert split["estimated"].all()
    # rank 0 receives two of three rows from rank 1: 600 kB at 450 GB/s take 1333 ns
    assert split.sort("rank")["wait_ns"][0] == 2_000 - 1_333
    assert split["bus_bytes_per_second"].null_count() == 2
    assert set(split_collectives(frame, one_clock=False)["basis"].cast(pl.String)) == {"none"}


def test_a_rank_alone_gets_bounds_from_its_own_fastest_call() -> None:
    one = [
        members("all_reduce", [0], [duration], [450_000], [450_000]).with_columns(
            group=pl.lit("0,1"), num_members=pl.lit(2, pl.Int32), match=pl.lit(i, pl.UInt64), index=pl.lit(i, pl.UInt32)
        )
        for i, duration in enumerate([7_000, 3_000, 9_000, 4_000, 4_000, 4_000, 4_000, 4_000])
    ]
    alone = links(2)
    split = split_collectives(pl.concat(one), one_clock=True, links=alone).sort("match")
    assert set(split["basis"].cast(pl.String)) == {"own_min"}
    assert split["wait_ns"].null_count() == 8
    assert split["wait_low_ns"].to_list()[:3] == [1_000, 0, 3_000]  # beyond twice the fastest
    assert split["wait_high_ns"].to_list()[:3] == [6_000, 2_000, 8_000]  # 450 kB cross the link in 1 µs
    few = split_collectives(pl.concat(one[:7]), one_clock=True, links=alone)
    assert few["wait_low_ns"].null_count() == 7


def test_who_exchanges_nothing_with_the_late_member_does_not_wait_for_it() -> None:
    frame = members(
        "all_to_all", [0, 10, 500], [60, 60, 560], [30, 30, 10], [30, 30, 10],
        send_splits=[[1, 2, 0], [2, 1, 0], [0, 0, 1]], receive_splits=[[1, 2, 0], [2, 1, 0], [0, 0, 1]],
    )  # fmt: skip
    split = split_collectives(frame, one_clock=True).sort("rank")
    assert split["wait_ns"].to_list() == [10, 0, 0]
    assert split["late_rank"].to_list() == [1, 1, 2]


def test_waits_of_the_order_of_the_clocks_residual_are_withheld() -> None:
    frame = members("all_to_all", [0, 100], [150, 150], [100, 200], [200, 100])
    clocks = pl.DataFrame({"rank": [0, 1], "residual_ns": [0, 40]}, schema_overrides={"rank": pl.Int32})
    known = split_collectives(frame, one_clock=True, clocks=clocks).sort("rank")
    assert known["clock_residual_ns"].to_list() == [40, 0]
    assert hidden_by_clocks(known) is None
    vague = clocks.with_columns(pl.Series("residual_ns", [0, 60]))
    reason = hidden_by_clocks(split_collectives(frame, one_clock=True, clocks=vague))
    assert reason is not None
    assert "100 ns" in reason
