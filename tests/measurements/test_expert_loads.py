"""Load statistics and the traffic matrix: reference values, laws and small tables by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceanalyzer.measurements.experts.loads import load_statistics, persistence
from traceanalyzer.measurements.experts.traffic import between_hosts, byte_loads, traffic, unreadable_splits
from traceanalyzer.schema import COLLECTIVES, TRAFFIC, conform

FIGURES = ("max_over_mean", "max_vio", "cv", "gini", "entropy_share", "num_effective")


def reference() -> list[dict[str, str]]:
    lines = (Path(__file__).parents[1] / "data" / "imbalance.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def loads_of(*steps: list[float]) -> pl.DataFrame:
    rows = [(step, 0, "g", rank, x) for step, loads in enumerate(steps) for rank, x in enumerate(loads)]
    return pl.DataFrame(rows, schema=["step", "layer", "group", "rank", "tokens"], orient="row")


@pytest.mark.parametrize("row", reference(), ids=lambda row: row["load"])
def test_figures_equal_the_reference(row: dict[str, str]) -> None:
    loads = [2 * float(x) for x in row["vector"].split(";")]  # halves of a replicated expert: doubled, all figures stay
    (found,) = load_statistics(loads_of([int(x) for x in loads]), "rank", "received").to_dicts()
    for name in FIGURES:
        assert found[name] == pytest.approx(float(row[name]), abs=1e-4), name


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=20).filter(any))
def test_figures_keep_their_bounds_and_ignore_order_and_scale(loads: list[int]) -> None:
    (one,) = load_statistics(loads_of(loads), "rank", "received").to_dicts()
    (other,) = load_statistics(loads_of([7 * x for x in reversed(loads)]), "rank", "received").to_dicts()
    n = len(loads)
    for name in FIGURES:
        assert other[name] == pytest.approx(one[name], abs=1e-9)
    assert 1 <= one["max_over_mean"] <= n + 1e-9
    assert -1e-9 <= one["gini"] <= 1 - 1 / n + 1e-9
    assert -1e-9 <= one["entropy_share"] <= 1 + 1e-9
    assert one["num_idle"] == loads.count(0)
    assert loads[one["hottest"]] == max(loads)


def test_a_layer_without_tokens_has_no_figures() -> None:
    assert load_statistics(loads_of([0, 0], [1, 3]), "rank", "received")["step"].to_list() == [1]


def test_a_steady_and_a_wandering_hot_rank_are_separated() -> None:
    steady = persistence(loads_of([10, 2, 2, 2], [10, 2, 2, 2], [9, 3, 2, 2]), "rank").row(0, named=True)
    assert (steady["pattern"], steady["hottest"]) == ("steady", 0)
    wandering = persistence(loads_of([10, 2, 2, 2], [2, 10, 2, 2], [2, 2, 10, 2], [2, 2, 2, 10]), "rank")
    assert wandering["persistent_share"].to_list() == [0.0]
    assert wandering["pattern"].to_list() == ["wandering"]
    assert persistence(loads_of([10, 2], [10, 2]), "rank")["pattern"].to_list() == [None]
    assert persistence(loads_of([2, 2], [2, 2], [2, 2]), "rank")["pattern"].to_list() == [None]


def record(rank: int, send: list[int] | None, receive: list[int] | None, group: str = "5,9", **more: int) -> dict:
    row = {"rank": rank, "step": 1, "group": group, "sequence": 0, "kind": "all_to_all", "start_ns": 0, "end_ns": 1}
    row |= {"send_splits": send, "receive_splits": receive, "layer": 0, "direction": "dispatch"}
    row |= {"send_bytes": 8 * sum(send or []), "receive_bytes": 8 * sum(receive or [])}
    return row | more


def collectives(*rows: dict) -> pl.DataFrame:
    return conform(pl.DataFrame(list(rows), schema_overrides=dict(COLLECTIVES)), COLLECTIVES)


def matrix_of(table: pl.DataFrame) -> dict[tuple[int, int], tuple[int | None, int, bool | None]]:
    columns = ("source", "target", "tokens", "bytes", "agrees")
    return {(s, t): (n, b, a) for s, t, n, b, a in table.select(columns).iter_rows()}


def test_imbalance_that_few_steps_hold_comes_in_bursts_and_names_them() -> None:
    calm = [4, 4, 4, 4]
    (found,) = persistence(loads_of(calm, [4, 5, 4, 3], [1, 13, 1, 1], calm, [2, 10, 2, 2]), "rank").to_dicts()
    assert (found["pattern"], found["bursts"], found["hottest"]) == ("bursts", [2, 4], 1)
    (steady,) = persistence(loads_of([1, 13, 1, 1], [2, 10, 2, 2], [1, 12, 1, 2]), "rank").to_dicts()
    assert (steady["pattern"], steady["bursts"]) == ("steady", [])


def test_positions_in_a_sub_group_become_global_ranks() -> None:
    table = traffic(collectives(record(5, [1, 2], [1, 4]), record(9, [4, 3], [2, 3])))
    assert matrix_of(table) == {
        (5, 5): (1, 8, True),
        (5, 9): (2, 16, True),
        (9, 5): (4, 32, True),
        (9, 9): (3, 24, True),
    }


def test_one_captured_rank_shows_its_row_and_its_column() -> None:
    assert matrix_of(traffic(collectives(record(9, [4, 3], [2, 3])))) == {
        (9, 5): (4, 32, None),
        (9, 9): (3, 24, True),
        (5, 9): (2, 16, None),
    }


def test_lists_that_contradict_each_other_are_marked() -> None:
    table = traffic(collectives(record(5, [1, 2], [1, 4]), record(9, [5, 3], [2, 3])))
    assert matrix_of(table)[9, 5] == (5, 40, False)
    assert matrix_of(table)[5, 9] == (2, 16, True)


def test_a_cut_list_is_counted_and_never_read() -> None:
    cut = collectives(record(5, [1], [1], send_bytes=80, receive_bytes=80))
    assert traffic(cut).is_empty()
    assert unreadable_splits(cut) == 1
    assert unreadable_splits(collectives(record(5, [], []), record(9, [4, 3], [2, 3]))) == 0


def test_an_even_exchange_gives_bytes_and_no_rows() -> None:
    even = collectives(record(5, [], [], send_bytes=64, receive_bytes=64))
    assert matrix_of(traffic(even)) == {(5, 5): (None, 32, None), (5, 9): (None, 32, None), (9, 5): (None, 32, None)}


def test_own_share_crosses_no_link() -> None:
    loads = byte_loads(traffic(collectives(record(5, [1, 2], [1, 4]), record(9, [4, 3], [2, 3]))))
    assert loads.select("rank", "sent_bytes", "received_bytes").rows() == [(5, 16, 32), (9, 32, 16)]


@pytest.mark.parametrize(
    ("hosts", "pairs"),
    [
        (["a", "a", "b"], {(0, 2), (2, 0), (1, 2), (2, 1)}),
        (["a", "a", "a"], {(source, target) for source in range(3) for target in range(3)}),
        (["a", None, "b"], {(source, target) for source in range(3) for target in range(3)}),
    ],
)
def test_exchanges_over_hosts_are_measured_by_what_leaves_a_host(
    hosts: list[str | None], pairs: set[tuple[int, int]]
) -> None:
    rows = [
        {"step": 1, "group": "0,1,2", "sequence": 0, "source": source, "target": target, "bytes": 5, "tokens": 1}
        for source in range(3)
        for target in range(3)
    ]
    matrix = conform(pl.DataFrame(rows), TRAFFIC)
    found = between_hosts(
        matrix, pl.DataFrame({"rank": [0, 1, 2], "host": hosts}, schema_overrides={"host": pl.String})
    )
    assert set(found.select("source", "target").iter_rows()) == pairs
