"""The accounting law on device traces, against a raster that decides nanosecond by nanosecond."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceanalyzer.measurements.ledger.device import ambiguous_ns, device_accounting
from traceanalyzer.measurements.ledger.phases import step_phases
from traceanalyzer.schema import COMMUNICATIONS, KERNELS, ROLE, STEPS, conform

US = 1000
ROLES = ["pp", "ep", "dp", None]
END = 60


@st.composite
def device(draw: st.DrawFn) -> tuple[list[dict], list[dict]]:
    """Kernels in whole microseconds: computing, copying, and communication with a wait that may be unknown."""
    kernels, communications = [], []
    for index in range(draw(st.integers(0, 9))):
        kind = draw(st.sampled_from(["gemm", "fused", "copy", "communication", "communication", "barrier"]))
        start = draw(st.integers(0, END - 1))
        end = draw(st.integers(start, END))
        launch = draw(st.one_of(st.none(), st.integers(-5, end)))
        row = {"rank": 0, "cycle": 0, "index": index, "kind": kind, "start": start, "end": end, "launch": launch}
        kernels.append(row)
        if kind == "communication" and draw(st.booleans()):
            wait = draw(st.one_of(st.none(), st.integers(0, end - start)))
            communications.append(row | {"role": draw(st.sampled_from(ROLES)), "wait": wait})
    return kernels, communications


def covers(row: dict, at: int) -> bool:
    return row["start"] <= at < row["end"]


def releasing(kernels: list[dict], communications: list[dict]) -> set[int]:
    """Communication that ends last within 20 µs before a computing kernel starts; ties are left out of the test."""
    found = set()
    for kernel in kernels:
        if kernel["kind"] not in ("gemm", "fused"):
            continue
        before = [c for c in communications if kernel["start"] - 20 <= c["end"] <= kernel["start"]]
        if before:
            latest = max(c["end"] for c in before)
            found |= {c["index"] for c in before if c["end"] == latest}
    return found


def owner(at: int, kernels: list[dict], communications: list[dict], released: set[int]) -> str:
    """Who owns microsecond `at`, by the rules in words."""
    if any(k["kind"] in ("gemm", "fused") and covers(k, at) for k in kernels):
        return "compute"
    running = [c for c in communications if covers(c, at)]
    if running:

        def rank(c: dict) -> tuple:
            part = 2 if c["wait"] is None else 1 if at < c["start"] + c["wait"] else 0
            roles = [*ROLE.categories, None]
            return (c["index"] not in released, roles.index(c["role"]), part)

        return ("transfer", "wait", "communication")[min(rank(c) for c in running)[2]]
    if any(k["kind"] == "copy" and covers(k, at) for k in kernels):
        return "copy"
    return "idle"


spans = st.lists(st.tuples(st.integers(0, END), st.integers(0, END), st.sampled_from(["F", "B", "I", "W"])), max_size=4)
pairs = st.lists(st.tuples(st.integers(0, END), st.integers(0, END)), max_size=3)


def phase(at: int, chunks: list, optimizer: list, reductions: list) -> str:
    """What the step is doing in microsecond `at`, by the rules in words."""
    mine = sorted((name, s, e) for s, e, name in chunks if s < e)
    for name in "FBIW":
        if any(n == name and s <= at < e for n, s, e in mine):
            return name
    if any(s <= at < e for s, e in optimizer):
        return "optimizer"
    if not mine:
        return "other"
    first, last = min(s for _, s, _ in mine), max(e for _, _, e in mine)
    if at >= last and any(s <= at < e for s, e in reductions):
        return "grad_sync"
    return "before_chunks" if at < first else "between_chunks" if at < last else "other"


@pytest.mark.wide
@given(device(), spans, pairs, pairs)
@settings(max_examples=2 * settings().max_examples)
def test_every_microsecond_has_the_owner_and_the_phase_that_the_rules_give(
    case: tuple[list[dict], list[dict]], chunks: list, optimizer: list, reductions: list
) -> None:
    kernels, listed = case
    names = {c["index"] for c in listed}
    communications = listed + [
        k | {"role": None, "wait": k["end"] - k["start"] if k["kind"] == "barrier" else None}
        for k in kernels
        if k["kind"] in ("communication", "barrier") and k["index"] not in names
    ]
    ends = [c["end"] for c in communications]
    if len(ends) != len(set(ends)):
        return  # which of two that end together released the next kernel is not defined
    released = releasing(kernels, communications)
    expected: dict[tuple[str, str], int] = {}
    for at in range(END):
        who = owner(at, kernels, communications, released), phase(at, chunks, optimizer, reductions)
        expected[who] = expected.get(who, 0) + US
    table = table_of(kernels, listed, chunks, optimizer, reductions)
    idle = pl.col("owner").cast(pl.String).replace(["host", "launch_gap", "queued", "unknown"], "idle")
    got = table.group_by(idle, pl.col("phase").cast(pl.String)).agg(pl.col("duration_ns").sum())
    assert {(name, doing): ns for name, doing, ns in got.iter_rows()} == expected


def table_of(
    kernels: list[dict], communications: list[dict], chunks: list = (), optimizer: list = (), reductions: list = ()
) -> pl.DataFrame:
    windows, on_device, exchanged = tables_of(kernels, communications)

    def spans_of(rows: list, names: list[str]) -> pl.DataFrame:
        columns = {"start_ns": pl.Int64, "end_ns": pl.Int64} | dict.fromkeys(names, pl.String)
        times = pl.DataFrame([(s * US, e * US, *rest) for s, e, *rest in rows], schema=columns, orient="row")
        return times.with_columns(pl.lit(0, pl.Int32).alias("rank"))

    phases = step_phases(windows, spans_of(chunks, ["phase"]), spans_of(optimizer, []), spans_of(reductions, []))
    return device_accounting(windows, on_device, exchanged, phases)


def tables_of(kernels: list[dict], communications: list[dict]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    def frame(rows: list[dict], schema: pl.Schema) -> pl.DataFrame:
        plain = [
            {
                "rank": row["rank"],
                "cycle": 0,
                "index": row["index"],
                "kind": row["kind"] if schema is KERNELS else "p2p",
                "role": row.get("role"),
                "start_ns": row["start"] * US,
                "end_ns": row["end"] * US,
                "wait_ns": None if row.get("wait") is None else row["wait"] * US,
                "launch_end_ns": None if row["launch"] is None else row["launch"] * US,
            }
            for row in rows
        ]
        types = {"kind": pl.String, "role": pl.String, "wait_ns": pl.Int64, "launch_end_ns": pl.Int64}
        empty = {n: types.get(n, pl.Int64) for n in ("rank", "cycle", "index", "start_ns", "end_ns", *types)}
        return conform(pl.DataFrame(plain, schema=empty), schema)

    windows = conform(pl.DataFrame({"rank": [0], "step": [1], "start_ns": [0], "end_ns": [END * US]}), STEPS)
    return windows, frame(kernels, KERNELS), frame(communications, COMMUNICATIONS)


def kernel(index: int, start: int, end: int, launch: int | None, kind: str = "gemm") -> dict:
    return {"rank": 0, "index": index, "kind": kind, "start": start, "end": end, "launch": launch}


def test_idle_time_is_the_hosts_only_until_the_launch_returned() -> None:
    table = table_of([kernel(0, 0, 10, -1), kernel(1, 30, 40, 25), kernel(2, 45, 50, 42), kernel(3, 55, 60, None)], [])
    assert table.select(pl.col("owner").cast(pl.String), "duration_ns").sort("owner").rows() == [
        ("compute", 30 * US),
        ("host", 17 * US),  # 10 to 25 and 40 to 42
        ("launch_gap", 8 * US),  # 25 to 30 and 42 to 45, both up to 10 µs
        ("unknown", 5 * US),  # the last kernel has no launch record
    ]


def test_a_kernel_launched_long_before_was_queued() -> None:
    table = table_of([kernel(0, 0, 10, -1), kernel(1, 40, 60, 5)], [])
    assert dict(table.select(pl.col("owner").cast(pl.String), "duration_ns").iter_rows()) == {
        "compute": 30 * US,
        "queued": 30 * US,
    }


def test_time_under_two_dimensions_that_release_nothing_is_counted_as_ambiguous() -> None:
    def exchange(index: int, start: int, end: int, role: str) -> dict:
        return kernel(index, start, end, 0, "communication") | {"role": role, "wait": 0}

    both = [exchange(1, 0, 30, "pp"), exchange(2, 20, 50, "dp")]  # together from 20 to 30; nothing computes after them
    windows, kernels, communications = tables_of(both, both)
    assert ambiguous_ns(windows, kernels, communications) == 10 * US
    alone = tables_of(both[:1], both[:1])
    assert ambiguous_ns(*alone) == 0


def test_launched_work_that_does_not_start_is_queued_for_a_reason_that_is_not_recorded() -> None:
    table = table_of([kernel(0, 0, 10, -1), kernel(1, 45, 60, 20)], [])
    causes = table.select(pl.col("owner").cast(pl.String), "cause", "duration_ns").rows()
    assert ("queued", "not recorded", 25 * US) in causes  # after the launching call returned
    assert ("host", "before launch", 10 * US) in causes  # before it
