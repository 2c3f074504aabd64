"""CPU traces without labels are cut into actions at messages and autograd ranges; pipelines follow their messages."""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import EVENTS, P2P, STEPS, conform
from traceanalyzer.tables.actions.host_chunks import host_actions
from traceanalyzer.tables.actions.inside_ranges import halves, without_last_sends
from traceanalyzer.tables.groups.chains import with_own_pipelines

BACK = "autograd::engine::evaluate_function: MmBackward0"
Row = tuple[str, int, int]


def _events(rows: list[Row], rank: int = 1) -> pl.DataFrame:
    """Operators (user annotations where the name starts with P) of one main thread, in milliseconds."""
    data = [
        {
            "rank": rank,
            "cycle": 0,
            "index": number,
            "ph": "X",
            "name": name,
            "category": "user_annotation" if name.startswith("P") else "cpu_op",
            "thread": "7",
            "start_ns": start * 1_000_000,
            "duration_ns": (end - start) * 1_000_000,
        }
        for number, (name, start, end) in enumerate([("ProfilerStep#3", 0, 1), *rows])
    ]
    return conform(pl.DataFrame(data), EVENTS)


def _windows(end: int = 1000) -> pl.DataFrame:
    rows = pl.DataFrame([{"rank": 1, "step": 3, "start_ns": 0, "end_ns": end * 1_000_000}])
    return conform(rows, STEPS)


def _message(rank: int, peer: int, direction: str, start: int, end: int | None, group: str) -> dict[str, object]:
    return {
        "rank": rank,
        "peer": peer,
        "direction": direction,
        "step": 3,
        "group": group,
        "role": "pp",
        "role_source": "use",
        "start_ns": start * 1_000_000,
        "end_ns": None if end is None else end * 1_000_000,
    }


def _messages(*rows: dict[str, object]) -> pl.DataFrame:
    return conform(pl.DataFrame(list(rows), infer_schema_length=None), P2P)


def _spans(actions: pl.DataFrame) -> list[tuple[str, int, int, int]]:
    times = (pl.col(name) // 1_000_000 for name in ("start_ns", "end_ns"))
    return actions.select(pl.col("phase").cast(pl.String), "microbatch", *times).rows()


def test_shapes_are_no_chunks_recomputation_is_backward_and_the_optimizer_is_none() -> None:
    events = _events(
        [
            ("aten::zero_", 2, 30),  # before anything has come
            ("aten::item", 52, 53),  # between the shape and the activation
            ("aten::mm", 60, 100),
            ("aten::mm", 140, 180),
            (BACK, 300, 350),
            ("aten::mm", 301, 340),  # recomputed inside
            ("aten::ones_like", 351, 352),
            (BACK, 353, 380),
            (BACK, 410, 490),
            ("aten::addcdiv_", 500, 900),
        ]
    )
    messages = _messages(
        _message(1, 0, "receive", 40, 51, "0,1"),
        _message(1, 0, "receive", 54, 59, "0,1"),
        _message(1, 0, "receive", 101, 130, "0,1"),
        _message(1, 0, "send", 400, None, "0,1"),
    )
    found = _spans(host_actions(events, _windows(), messages))
    assert found == [("F", 0, 60, 100), ("F", 1, 140, 180), ("B", 0, 300, 380), ("B", 1, 410, 490)]


def test_without_pipeline_messages_nothing_is_cut() -> None:
    assert host_actions(_events([("aten::mm", 60, 100)]), _windows(), _messages().clear()).is_empty()


def test_two_pipelines_on_the_default_group_are_told_apart_in_their_own_order() -> None:
    world = "0,1,2,3"
    messages = _messages(
        _message(3, 0, "send", 1, None, world),
        _message(0, 3, "receive", 1, 5, world),
        _message(0, 3, "send", 9, None, world),
        _message(1, 2, "send", 1, None, world),
        _message(2, 1, "receive", 1, 5, world),
        _message(2, 1, "send", 9, None, world),
    )
    groups = dict(with_own_pipelines(messages).select("rank", "group").unique().iter_rows())
    assert groups == {3: "3,0", 0: "3,0", 1: "1,2", 2: "1,2"}


def test_a_pipeline_with_a_rank_that_was_not_captured_stays_as_it_is() -> None:
    messages = _messages(_message(1, 0, "send", 1, None, "0,1,2,3"))
    assert with_own_pipelines(messages)["group"].to_list() == ["0,1,2,3"]


def test_halves_that_follow_each_other_are_split() -> None:
    rows = [("PP:(2F5;7B1)OVERLAP_F_B", 100, 200), ("aten::mm", 104, 130), (BACK, 140, 198)]
    found = halves(_events(rows)).select("stage", "microbatch", pl.col("start_ns", "end_ns") // 1_000_000).rows()
    assert found == [(2, 5, 100, 130), (7, 1, 140, 200)]


def test_halves_that_take_turns_are_one_span() -> None:
    rows = [("PP:(2F5;7B1)OVERLAP_F_B", 100, 200)]
    rows += [("aten::mm", 110, 120), (BACK, 120, 140), ("aten::mm", 140, 150), (BACK, 150, 170)]
    found = halves(_events(rows)).select("stage", "microbatch", pl.col("start_ns", "end_ns") // 1_000_000).rows()
    assert found == [(2, 5, 110, 130), (7, 1, 130, 170)]


def test_a_range_ends_at_its_last_send_unless_work_follows_it() -> None:
    ranges = pl.DataFrame({"rank": [1, 1], "start_ns": [0, 100], "end_ns": [90, 190]}).with_columns(
        pl.col("rank").cast(pl.Int32), pl.col("start_ns", "end_ns") * 1_000_000
    )
    rows = [("aten::mm", 5, 40), ("c10d::send", 50, 51), ("c10d::send", 120, 121), ("aten::mm", 130, 180)]
    ends = without_last_sends(ranges, _events(rows)).sort("start_ns")["end_ns"] // 1_000_000
    assert ends.to_list() == [50, 190]
