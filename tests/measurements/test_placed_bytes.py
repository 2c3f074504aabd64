"""Bytes within and between hosts, by hand, and what the check says of them."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from traceanalyzer.gaps.checks.check import Judged
from traceanalyzer.gaps.checks.registry import findings
from traceanalyzer.gaps.communication.placement import placement_gap
from traceanalyzer.measurements.communication.placed_bytes import members_of, placed_bytes
from traceanalyzer.review import DimensionBytes, ValidityFigures
from traceanalyzer.schema import COLLECTIVES, P2P, conform

RANKS = pl.DataFrame({"rank": [0, 1, 2], "host": ["a", "a", "b"]}, schema={"rank": pl.Int32, "host": pl.String})


def collective(rank: int, kind: str, role: str, sent: int | None, splits: list[int] | None = None) -> dict[str, Any]:
    return {
        "rank": rank, "step": 4, "group": "0,1,2", "kind": kind, "role": role, "send_bytes": sent, "send_splits": splits
    }  # fmt: skip


def placed(
    *rows: dict[str, Any], messages: list[dict[str, Any]] | None = None, ranks: pl.DataFrame = RANKS
) -> dict[Any, Any]:
    collectives = (
        conform(pl.DataFrame(list(rows), infer_schema_length=None), COLLECTIVES)
        if rows
        else pl.DataFrame(schema=COLLECTIVES)
    )
    sends = conform(pl.DataFrame(messages), P2P) if messages else pl.DataFrame(schema=P2P)
    table = placed_bytes(collectives, sends, ranks)
    columns = ("within_bytes", "between_bytes", "unplaced_bytes", "num_crossing", "num_unknown")
    return {(row["rank"], row["role"]): tuple(row[name] for name in columns) for row in table.iter_rows(named=True)}


@pytest.mark.parametrize(
    ("kind", "each"), [("all_reduce", 120.0), ("all_gather", 180.0), ("reduce_scatter", 60.0), ("broadcast", 90.0)]
)
def test_a_ring_sends_to_the_next_member(kind: str, each: float) -> None:
    """Rank 0's next is on its own host, those of ranks 1 and 2 are not. 90 bytes, three members."""
    found = placed(*[collective(rank, kind, "tp", 90) for rank in range(3)])
    assert found == {
        (0, "tp"): (each, 0.0, 0.0, 1, 0),
        (1, "tp"): (0.0, each, 0.0, 1, 0),
        (2, "tp"): (0.0, each, 0.0, 1, 0),
    }


def test_an_exchange_sends_what_its_splits_say_and_a_message_to_its_other_end() -> None:
    found = placed(collective(0, "all_to_all", "ep", 100, [1, 3, 6]), collective(1, "all_to_all", "ep", 90, []))
    assert found == {(0, "ep"): (30.0, 60.0, 0.0, 1, 0), (1, "ep"): (30.0, 30.0, 0.0, 1, 0)}
    sent = {"rank": 1, "step": 4, "direction": "send", "group": "0,1,2", "peer": 2, "role": "pp", "bytes": 7}
    assert placed(messages=[sent, sent | {"peer": 0}, sent | {"direction": "receive"}]) == {
        (1, "pp"): (7.0, 7.0, 0.0, 1, 0)
    }


def test_members_of_a_long_group_share_its_text() -> None:
    """A group of 5,000 ranks is a text of 24 kB: a copy for every member would take 120 MB."""
    found = members_of(pl.Series([",".join(map(str, range(5000)))]))
    assert found.row(4999)[1:] == (4999, 4999, 5000, 0)
    assert found.estimated_size() < 1 << 20


def test_what_is_not_known_is_in_no_sum() -> None:
    unnamed = RANKS.with_columns(pl.when(pl.col("rank") < 2).then("host").alias("host"))
    found = placed(collective(1, "all_reduce", "dp", 90), collective(1, "all_reduce", "dp", None), ranks=unnamed)
    assert found == {(1, "dp"): (0.0, 0.0, 120.0, None, 1)}


def judged(figures: tuple[DimensionBytes, ...]) -> Any:
    unknown = ValidityFigures(
        verdict="unknown", cpu_pressure_share=None, involuntary_switches_per_second=None, action_spread=None, reasons=[]
    )
    told = findings(Judged(validity=unknown, dimension_bytes=figures))
    return next((each for each in told if each.id == "placement.tensor_parallel"), None)


@pytest.mark.parametrize(
    ("hosts", "role", "passed"),
    [
        (["a", "a", "b"], "tp", False),
        (["c", "c", "c"], "tp", True),
        (["a", "a", None], "tp", None),
        (["a", None, "b"], "tp", False),
        (["a", "a", "b"], "dp", None),
    ],
)
def test_tensor_parallelism_across_hosts_is_a_finding(hosts: list[str | None], role: str, passed: bool | None) -> None:  # noqa: FBT001
    class Tables:
        ranks = RANKS.with_columns(pl.Series("host", hosts))

    rows = conform(pl.DataFrame([collective(rank, "all_reduce", role, 90) for rank in range(3)]), COLLECTIVES)
    gap = placement_gap(Tables(), rows, pl.DataFrame(schema=P2P))  # pyright: ignore[reportArgumentType]
    found = judged(gap.figures)
    assert (None if found is None else found.passed) == passed
    if passed is False:
        assert (found.rank, found.culprit) == (0, "the tensor-parallel group of ranks 0–2")
        assert found.evidence.startswith("1 of 1 tensor-parallel group with members on several hosts")
        if None not in hosts:
            assert "sends 80 B per step to another host and 40 B within" in found.evidence


def test_a_group_of_thousands_of_which_few_were_captured() -> None:
    size = 5_000
    rows = [collective(rank, "all_reduce", "dp", 1_000) | {"group": ",".join(map(str, range(size)))} for rank in (0, 1)]
    found = placed(*rows)
    sent = 2 * (size - 1) / size * 1_000
    assert found == {(0, "dp"): (sent, 0, 0, 1, 0), (1, "dp"): (0, sent, 0, 1, 0)}
    table = placed_bytes(conform(pl.DataFrame(rows), COLLECTIVES), pl.DataFrame(schema=P2P), RANKS)
    assert table["num_parts"].to_list() == [1, 1]
