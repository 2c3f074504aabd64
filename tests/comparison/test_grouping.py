"""The fewest words that explain a difference: computation by rank, stage and kernel; transfers by link and group."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from traceanalyzer.comparison.jobs import job_changes
from traceanalyzer.comparison.record import schema_text
from traceanalyzer.comparison.replay.computation import computed_changes
from traceanalyzer.comparison.replay.links import link_changes
from traceanalyzer.comparison.side import Side
from traceanalyzer.comparison.views.exclusive import exclusive_times
from traceanalyzer.comparison.views.waterfalls import (
    REST,
    Part,
    kernel_change,
    kernel_waterfalls,
    waterfall,
    whole_parts,
)
from traceanalyzer.hardware import Hardware
from traceanalyzer.job import Pacing
from traceanalyzer.review import Fact, JobFacts
from traceanalyzer.review.sections.job import Degrees
from traceanalyzer.schema import KERNELS, STEPS, conform

STAGES = {0: (0,), 1: (0,), 2: (1,), 3: (1,)}


def cells(change: dict[tuple[int, str], int], *, before: int = 100) -> pl.DataFrame:
    """Four ranks with three kernels of 100 ns each; `change` in ns."""
    rows = [
        (rank, what, what, None, before, before + change.get((rank, what), 0), 4.0, 4.0)
        for rank in range(4)
        for what in ("gemm", "attention", "norm")
    ]
    names = ("rank", "what", "kernel", "shape", "before_ns", "after_ns", "before_number", "after_number")
    return pl.DataFrame(rows, schema=names, orient="row")


EVERYTHING = {(rank, what): 10 for rank in range(4) for what in ("gemm", "attention", "norm")}


@pytest.mark.parametrize(
    ("change", "kind", "ranks"),
    [
        (EVERYTHING, "computation", (0, 1, 2, 3)),
        ({key: 20 for key in EVERYTHING if key[0] in (2, 3)}, "stage", (2, 3)),
        ({key: 20 for key in EVERYTHING if key[0] == 3}, "rank", (3,)),
        ({key: 20 for key in EVERYTHING if key[1] == "norm"}, "kernel", (0, 1, 2, 3)),
        ({(1, "attention"): -30}, "kernel", (1,)),
    ],
    ids=["everything", "a stage", "a rank", "a kernel", "a kernel of a rank"],
)
def test_computation(change: dict[tuple[int, str], int], kind: str, ranks: tuple[int, ...]) -> None:
    first, *others = computed_changes(cells(change), STAGES)
    assert (first.kind, first.ranks) == (kind, ranks)
    assert first.after_ns - first.before_ns == sum(change.values())
    assert all(each.after_ns == each.before_ns for each in others)


def test_a_kernel_that_appeared_is_a_kernel() -> None:
    new = pl.DataFrame(
        [(rank, "new", "new", None, 0, 50, 0.0, 2.0) for rank in range(4)], schema=cells({}).columns, orient="row"
    )
    rows = pl.concat([cells({}).cast({"shape": pl.String}), new.cast({"shape": pl.String})], how="vertical_relaxed")
    first = computed_changes(rows, STAGES)[0]
    assert (first.kind, first.kernel, first.ratio) == ("kernel", "new", None)


def transfers(*rows: tuple[int, str, str, int, int]) -> pl.DataFrame:
    """`rank`, `kind`, `members`, `before_ns`, `after_ns`, one place each."""
    frame = pl.DataFrame(rows, schema=["rank", "kind", "members", "before_ns", "after_ns"], orient="row")
    return frame.with_row_index("place").with_columns(pl.lit("pp").alias("role"), pl.col("place").cast(pl.Int64))


def edge(source: int, target: int, after: int = 100) -> list[tuple[int, str, str, int, int]]:
    return [(rank, "send_recv", f"{source},{target}", 100, after) for rank in (source, target)]


def test_the_rank_whose_links_all_changed_is_named() -> None:
    (found,) = link_changes(transfers(*edge(0, 1, 300), *edge(1, 2, 300), *edge(2, 3)))
    assert (found.kind, found.ranks) == ("link", (1,))
    assert (found.before_ns, found.after_ns) == (400, 1200)


def test_one_link_is_told_by_both_its_ends() -> None:
    (found,) = link_changes(transfers(*edge(0, 1), *edge(1, 2), *edge(2, 3, 300)))
    assert (found.kind, found.ranks, found.members) == ("link", (2, 3), "2,3")


def test_a_ring_names_its_group_and_an_all_to_all_its_slow_member() -> None:
    ring = [(rank, "all_reduce", "0,1,2,3", 100, 300) for rank in range(4)]
    assert [(each.kind, each.ranks) for each in link_changes(transfers(*ring))] == [("communication", (0, 1, 2, 3))]
    spread = [(rank, "all_to_all", "0,1,2,3", 100, 500 if rank == 2 else 200) for rank in range(4)]
    assert [(each.kind, each.ranks) for each in link_changes(transfers(*spread))] == [("link", (2,))]


def test_all_messages_are_no_ones_link() -> None:
    (found,) = link_changes(transfers(*edge(0, 1, 300), *edge(1, 2, 300), *edge(2, 3, 300), *edge(3, 4, 300)))
    assert (found.kind, found.ranks) == ("communication", ())


def test_transfers_that_stayed_are_not_told() -> None:
    assert link_changes(transfers(*edge(0, 1, 105), *edge(1, 2, 96))) == []


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (Part(0, 0.0), Part(70, 2.0), "appeared"),
        (Part(70, 2.0), Part(0), "gone"),
        (Part(100, 2.0), Part(120, 2.0), "slower"),
        (Part(100, 2.0), Part(80, 2.0), "faster"),
        (Part(100, 2.0), Part(150, 3.0), "more_often"),
        (Part(100, 2.0), Part(50, 1.0), "less_often"),
        (Part(100, 10.0), Part(96, 6.0), "less_often"),  # each 1.6 times as long, and 0.6 as many
        (Part(100, 2.0), Part(100, 2.0), "same"),
    ],
)
def test_what_became_of_a_kernel(before: Part, after: Part, change: str) -> None:
    assert kernel_change(before, after) == change


def test_parts_sum_to_the_step_in_whole_nanoseconds_and_small_lines_are_drawn_together() -> None:
    sums = pl.DataFrame({"name": [f"k{at}" for at in range(60)], "duration_ns": [7 * at + 3 for at in range(60)]})
    parts = [whole_parts(sums, num, 5_000, "rest") for num in (4, 7)]
    assert [sum(part.ns for part in each.values()) for each in parts] == [5_000, 5_000]
    found = waterfall("kernel", "", "", parts[0], parts[1], ("rest",))
    assert len(found.lines) == 41
    assert [line.name for line in found.lines[-2:]] == ["21 more", "rest"]
    assert sum(line.change_ns for line in found.lines) == 0


def test_time_under_computation_is_not_counted_twice() -> None:
    rows = [("a", "gemm", 0, 100), ("b", "other", 50, 120), ("c", "communication", 100, 150), ("d", "copy", 0, 160)]
    kernels = pl.DataFrame(
        [
            {"rank": 0, "cycle": 0, "index": at, "step": 1, "stream": at, "name": name, "kind": kind, "start_ns": start, "end_ns": end}
            for at, (name, kind, start, end) in enumerate(rows)
        ]
    )  # fmt: skip
    windows = pl.DataFrame({"rank": [0, 0], "step": [1, 2], "start_ns": [0, 110], "end_ns": [110, 200]}).cast(
        {"rank": pl.Int32, "step": pl.Int32}
    )
    typed = kernels.with_columns(pl.col("name").cast(pl.Categorical), pl.col("kind").cast(KERNELS["kind"]))
    found = exclusive_times(conform(typed, KERNELS), windows)
    own = {
        (name, step): ns
        for name, step, ns in found.select(pl.col("name").cast(pl.String), "step", "own_ns").iter_rows()
    }
    assert own == {
        ("a", 1): 100, ("b", 1): 10, ("b", 2): 10, ("c", 1): 0, ("c", 2): 30, ("d", 1): 0, ("d", 2): 10,
    }  # fmt: skip


def test_the_schema_file_is_what_the_types_say() -> None:
    file = Path(__file__).parents[2] / "traceanalyzer" / "comparison" / "comparison.schema.json"
    assert file.read_text() == schema_text()


def test_time_without_a_kernel_is_apart_from_what_the_median_has_beside_the_mean() -> None:
    """Steps of 10, 20 and 12 µs whose kernels run for 9, 18 and 9: 2 µs of a mean step are idle, and the median is 2 µs shorter."""
    starts, lengths, busy = (0, 10_000, 30_000), (10_000, 20_000, 12_000), (9_000, 18_000, 9_000)
    steps = pl.DataFrame(
        [{"rank": 0, "step": at, "start_ns": s, "end_ns": s + n, "is_typical": True} for at, (s, n) in enumerate(zip(starts, lengths, strict=True))]
    )  # fmt: skip
    kernels = pl.DataFrame(
        [{"rank": 0, "cycle": 0, "index": at, "name": "a", "kind": "gemm", "start_ns": s, "end_ns": s + n} for at, (s, n) in enumerate(zip(starts, busy, strict=True))]
    )  # fmt: skip
    tables = {"steps": conform(steps, STEPS), "kernels": conform(kernels, KERNELS)}
    side = Side("a", None, tables)  # type: ignore[arg-type] - nothing of the review is looked at
    for view in kernel_waterfalls(side, side):
        assert [(line.name, line.base_ns) for line in view.lines if line.base_ns] == {
            "kernel_class": [("gemm", 12_000), ("no kernel runs", 2_000), (REST, -2_000)],
            "kernel": [("a", 12_000), ("no kernel runs", 2_000), (REST, -2_000)],
            "collective": [("computation, copies and idle time", 14_000), (REST, -2_000)],
        }[view.by]


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("hardware", Hardware(device="H100"), Hardware(device="H100", network_bytes_per_second=1e9), None),
        ("hardware", Hardware(device="H100"), Hardware(device="A100"), ("H100", "A100")),
        ("hardware", Hardware(device="H100"), None, ("H100", "not known")),
        ("layout", Degrees(pp=4, dp=2), Degrees(pp=4, dp=3), ("dp 2", "dp 3")),
        ("layout", Degrees(pp=4), Degrees(pp=4, ep=2), ("no ep", "ep 2")),
        ("pacing", Pacing(forward_ms=5), Pacing(forward_ms=6), None),
    ],
    ids=["measured anew", "another device", "not known", "one entry", "an entry more", "never compared"],
)
def test_facts_that_differ_are_told_in_words(
    name: str, before: object, after: object, said: tuple[str, str] | None
) -> None:
    jobs = [
        JobFacts(**({} if each is None else {name: Fact(value=each, source="declared")}))  # type: ignore[arg-type]
        for each in (before, after)
    ]
    found = [(each.before, each.after) for each in job_changes(*jobs)]
    assert found == ([] if said is None else [said])
