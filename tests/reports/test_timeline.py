from __future__ import annotations

import base64
import gzip

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import EPOCH_NS, MS, expert_tables, pipeline_actions

from reports.timeline import detail, lanes
from reports.timeline.busy import binned, busy_map
from reports.timeline.layout import Laid, lay_out
from reports.timeline.packing import Packed, pack
from reports.timeline.part import content
from reports.timeline.spans import SPANS, action_spans, computation_spans, device_spans, wait_spans
from reports.timeline.steps import shown, timed_steps
from traceanalyzer.schema import ACTIONS, COLLECTIVE_SPLITS, TABLES, conform, empty
from traceanalyzer.schema.pipeline import OWNER_SEGMENTS

KERNELS, COMMUNICATIONS, P2P = (TABLES[name].schema for name in ("kernels", "communications", "p2p"))


def actions(*rows: tuple[int, int, int, str, int, float, float]) -> pl.DataFrame:
    names = ["rank", "step", "stage", "phase", "microbatch", "start", "end"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    times = [(pl.col(n) * MS).round().cast(pl.Int64).alias(f"{n}_ns") for n in ("start", "end")]
    return conform(frame.with_columns(times), ACTIONS)


MEASURED = actions(
    (0, 7, 0, "F", 0, 100.0, 110.0),
    (0, 7, 0, "B", 0, 135.0, 155.0),
    (1, 7, 1, "F", 0, 112.0, 122.0),
    (1, 7, 1, "B", 0, 122.0, 132.0),
)
IDEAL = actions((0, 0, 0, "F", 0, 5.0, 15.0), (1, 0, 1, "F", 0, 15.0, 25.0), (1, 0, 1, "B", 0, 25.0, 45.0))


def kernels(*rows: tuple[int, int, int, str, float, float]) -> pl.DataFrame:
    """(rank, index, stream, kind, start ms, end ms)"""
    frame = pl.DataFrame(rows, schema=["rank", "index", "stream", "kind", "start", "end"], orient="row")
    times = [(pl.col(n) * MS).round().cast(pl.Int64).alias(f"{n}_ns") for n in ("start", "end")]
    return conform(frame.with_columns(*times, name=pl.col("kind") + "_kernel", cycle=0, step=1), KERNELS)


def test_steps_are_pipeline_phases_with_the_length_of_their_ideal() -> None:
    (step,) = timed_steps({"actions": MEASURED, "ideal_actions": IDEAL})
    assert (step.step, step.start_ns, step.end_ns, step.ideal_ns) == (7, 100 * MS, 155 * MS, 40 * MS)


def test_without_actions_steps_are_whole() -> None:
    steps = conform(
        pl.DataFrame({"rank": [0, 1], "step": [3, 3], "start_ns": [10, 12], "end_ns": [50, 55]}), TABLES["steps"].schema
    )
    (step,) = timed_steps({"actions": empty(ACTIONS), "steps": steps})
    assert (step.step, step.start_ns, step.end_ns, step.ideal_ns) == (3, 10, 55, None)
    assert timed_steps({}) == ()


@pytest.mark.parametrize(("lengths", "expected"), [([10, 30, 20], 2), ([10, 30], 0), ([5], 0), ([9, 1, 5, 7], 2)])
def test_the_median_step_is_shown(lengths: list[int], expected: int) -> None:
    frame = actions(*((0, i, 0, "F", 0, 1000.0 * i, 1000.0 * i + length) for i, length in enumerate(lengths)))
    assert shown(timed_steps({"actions": frame})) == expected


def test_a_step_set_apart_is_not_the_one_that_a_timeline_opens_on() -> None:
    steps = timed_steps({"actions": pipeline_actions(steps=(3, 4), slow_step=4)})
    assert [steps[shown(steps, apart)].step for apart in ([], [3], [3, 4])] == [3, 4, 3]


def test_the_second_chunk_of_a_rank_has_the_second_tone() -> None:
    chunked = actions(
        (0, 1, 0, "F", 0, 0, 1), (0, 1, 2, "F", 0, 1, 2), (1, 1, 1, "F", 0, 0, 1), (1, 1, 3, "F", 4, 1, 2)
    )
    spans = action_spans(chunked, ordered=True)
    assert spans.select("rank", "kind", "name").rows() == [
        (0, "F", "0F0"),
        (0, "F'", "2F0"),
        (1, "F", "1F0"),
        (1, "F'", "3F4"),
    ]


def test_a_message_is_waited_for_first_for_its_computation_then_for_its_send() -> None:
    p2p = conform(
        pl.DataFrame({"rank": [1, 0], "direction": ["receive", "send"], "peer": [0, 1], "start_ns": [10, 10], "end_ns": [40, 40], "wait_ns": [25, 3], "wait_dependency_ns": [20, None], "wait_late_send_ns": [5, None]}),
        P2P,
    )  # fmt: skip
    spans = wait_spans(p2p, empty(COLLECTIVE_SPLITS))
    assert spans.select("rank", "kind", "start_ns", "end_ns", "peer").rows() == [
        (1, "dependency", 10, 30, 0),
        (1, "late send", 30, 35, 0),
    ]


def collectives(**more: object) -> pl.DataFrame:
    frame = {
        "rank": [0, 1],
        "step": [2, 2],
        "kind": ["all_to_all"] * 2,
        "start_ns": [0, 30],
        "end_ns": [40, 40],
        "wait_ns": [30, 0],
        "transfer_ns": [10, 10],
        "late_rank": [1, None],
        "match": [5, 5],
    }
    return conform(pl.DataFrame({**frame, **more}), COLLECTIVE_SPLITS)  # fmt: skip


def owners(*rows: tuple[int, str, int, int]) -> pl.DataFrame:
    names = ("rank", "label", "start_ns", "end_ns")
    frame = pl.DataFrame([(2, *row) for row in rows], schema=("step", *names), orient="row")
    return conform(frame, OWNER_SEGMENTS)


def test_what_ranks_without_a_device_compute_is_drawn() -> None:
    segments = owners(
        (0, "compute/operator", 0, 10), (0, "compute/action", 10, 25), (0, "wait/collective", 25, 40),
        (1, "host/main", 0, 5), (1, "compute/operator", 5, 38), (1, "host/main", 38, 40),
    )  # fmt: skip
    assert computation_spans(segments).select("rank", "kind", "start_ns", "end_ns").rows() == [
        (0, "computation", 0, 25),
        (1, "computation", 5, 38),
    ]
    steps = conform(pl.DataFrame({"rank": [0, 1], "step": 2, "start_ns": 0, "end_ns": 40}), TABLES["steps"].schema)
    tables = {"steps": steps, "collectives": collectives(), "owner_segments": segments}
    laid = lay_out(tables)
    assert laid.busy_with == "computing"
    drawn = laid.device.spans.select("rank", "kind", "start_ns", "end_ns").rows()
    assert drawn == sorted(drawn, key=lambda row: (row[0], row[2]))  # a rank's spans lie together
    assert {row[1] for row in drawn if row[0] == 0} == {"computation", "late member", "transfer"}
    assert ("other work of the host", "var(--idle)") in content(laid, ()).legend
    without = lay_out({"steps": steps, "collectives": collectives()})
    assert without.busy_with == "communicating"
    assert ("not communicating", "var(--idle)") in content(without, ()).legend


def test_without_a_device_collectives_are_waiting_for_the_last_member_then_transfer() -> None:
    spans = device_spans(empty(KERNELS), empty(COMMUNICATIONS), collectives(), empty(P2P))
    assert spans.select("rank", "kind", "start_ns", "end_ns", "peer", "match").rows() == [
        (0, "late member", 0, 30, 1, 5),
        (0, "transfer", 30, 40, None, 5),
        (1, "transfer", 30, 40, None, 5),
    ]


def test_kernels_lie_by_stream_the_computing_one_first_and_communication_is_cut_where_waiting_ends() -> None:
    device = kernels((3, 1, 20, "communication", 0.0, 9.0), (3, 2, 7, "gemm", 1.0, 3.0), (3, 3, 11, "copy", 0.0, 0.5))
    known = conform(
        pl.DataFrame({"rank": [3], "cycle": [0], "index": [1], "kind": ["all_reduce"], "wait_ns": [4 * MS], "late_rank": [9]}), COMMUNICATIONS
    )  # fmt: skip
    spans = device_spans(device, known, empty(COLLECTIVE_SPLITS), empty(P2P))
    assert spans.select("row", "kind", "start_ns", "end_ns", "peer").rows() == [
        (0, "gemm", 1 * MS, 3 * MS, None),
        (1, "late member", 0, 4 * MS, 9),
        (1, "transfer", 4 * MS, 9 * MS, None),
        (2, "copy", 0, MS // 2, None),
    ]


def test_communication_of_unknown_waiting_is_one_span() -> None:
    device = kernels((0, 1, 20, "communication", 0.0, 9.0))
    spans = device_spans(device, empty(COMMUNICATIONS), empty(COLLECTIVE_SPLITS), empty(P2P))
    assert spans.select("kind", "start_ns", "end_ns").rows() == [("communication", 0, 9 * MS)]


def frame_of(rows: list[tuple[int, int, int, int]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["rank", "row", "start_ns", "end_ns"], orient="row")
    more = {"kind": pl.lit("gemm"), "name": pl.lit("k"), "peer": None, "match": None}
    return (
        frame.with_columns(**more).select(pl.col(n).cast(t) for n, t in SPANS.items()).sort("rank", "row", "start_ns")
    )


def read_back(packed: Packed) -> dict[str, np.ndarray]:
    raw = np.frombuffer(gzip.decompress(base64.b64decode(packed.data)), np.uint8)
    out, at = {}, 0
    for name, width in (("start", 4), ("duration", 4), ("kind", 1), ("name", 2), ("peer", 2), ("match", 4)):
        planes = raw[at : at + width * packed.num].reshape(width, packed.num).astype(np.int64)
        out[name] = sum(plane << (8 * i) for i, plane in enumerate(planes))
        at += width * packed.num
    assert at == len(raw)
    first = 0
    for _, _, _, num in packed.tracks:
        out["start"][first : first + num] = np.cumsum(out["start"][first : first + num])
        first += num
    return out


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 10**12), st.integers(0, 10**9)), min_size=1, max_size=40
    )
)  # fmt: skip
def test_what_is_packed_is_read_back_to_within_its_unit(rows: list[tuple[int, int, int, int]]) -> None:
    frame = frame_of([(rank, row, start, start + length) for rank, row, start, length in rows])
    packed = pack([(3, frame)], 0, ["copy", "gemm"])
    read = read_back(packed)
    assert sum(num for *_, num in packed.tracks) == len(frame)
    assert [rank for _, rank, _, num in packed.tracks for _ in range(num)] == frame["rank"].to_list()
    assert np.abs(read["start"] * packed.unit_ns - frame["start_ns"].to_numpy()).max() < packed.unit_ns
    ends = (read["start"] + read["duration"]) * packed.unit_ns
    assert np.abs(ends - frame["end_ns"].to_numpy()).max() < packed.unit_ns
    assert set(read["kind"].tolist()) == {1}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 60), st.integers(0, 30)), min_size=1, max_size=8))
def test_bins_hold_what_a_raster_holds(found: list[tuple[int, int, int]]) -> None:
    rows = np.array([row for row, _, _ in found])
    start = np.array([at for _, at, _ in found])
    end = start + np.array([length for _, _, length in found])
    shares = binned(rows, start, end, (3, 8), (0, 40))
    raster = np.zeros((3, 40))
    for row, a, b in zip(rows, start, end, strict=True):
        raster[row, max(0, a) : max(0, min(40, b))] += 1
    assert np.allclose(shares, np.clip(raster.reshape(3, 8, 5).sum(axis=2) / 5, 0, 1))


def test_neighbours_share_a_row_of_the_map() -> None:
    spans = pl.DataFrame({"rank": [0, 1], "start_ns": [0, 0], "end_ns": [10, 0]}, schema_overrides={"rank": pl.Int32})
    assert busy_map(spans, [0, 1, 2, 3], (0, 10), 2, 1).tolist() == [[0.5], [0.0]]


def test_few_kernels_are_all_here_and_many_only_where_findings_point_and_in_the_typical_step() -> None:
    spans = frame_of([(0, 0, 10 * i, 10 * i + 9) for i in range(100)])
    assert detail.chosen(spans, [], (0, 100), limit=100).whole
    some = detail.chosen(spans, [(500, 520)], (0, 100), limit=40)
    assert not some.whole
    assert some.windows == ((496, 524), (0, 100))
    assert some.spans["start_ns"].to_list() == [*range(0, 100, 10), 490, 500, 510, 520]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 120), st.integers(0, 900), st.integers(1, 400))
def test_never_more_kernels_than_the_limit(limit: int, at: int, length: int) -> None:
    spans = frame_of([(i % 3, 0, 10 * i, 10 * i + 9) for i in range(100)])
    some = detail.chosen(spans, [(at, at + length)], (0, 600), limit=limit)
    assert len(some.spans) <= limit
    for first, last in some.windows:
        met = spans.filter((pl.col("start_ns") < last) & (pl.col("end_ns") > first))
        assert met.join(some.spans, on=["rank", "start_ns"], how="anti").is_empty()


def places(stages: int, replicas: int, slow: int | None = None) -> pl.DataFrame:
    ranks = [
        (s * replicas + r, s, r, 100 + (50 if s * replicas + r == slow else r))
        for s in range(stages)
        for r in range(replicas)
    ]
    return pl.DataFrame(ranks, schema=lanes.PLACES, orient="row")


def test_every_rank_of_a_small_job_has_a_lane_and_pipelines_and_stages_are_views() -> None:
    found = lanes.choose(places(3, 2), [])
    assert found.groups[0] == lanes.Group("all ranks", (0, 1, 2, 3, 4, 5))
    assert [group.name for group in found.groups[1:]] == [
        "pipeline 0",
        "pipeline 1",
        *(f"stage {s}, its replicas" for s in range(3)),
    ]
    assert found.groups[2].ranks == (1, 3, 5)
    assert found.left_out == ""


@pytest.mark.parametrize(("stages", "replicas"), [(8, 64), (64, 64), (1, 512), (128, 2)])
def test_a_large_job_has_few_lanes_and_the_slow_rank_is_among_them(stages: int, replicas: int) -> None:
    slow = stages * replicas // 2 + replicas // 3
    found = lanes.choose(places(stages, replicas, slow), [slow])
    assert slow in found.groups[0].ranks
    assert all(len(group.ranks) <= lanes.MAX_LANES for group in found.groups)
    assert len(found.ranks) <= lanes.MAX_EMBEDDED
    assert f"of {stages * replicas:,} ranks have lanes" in found.left_out
    if stages <= 16:
        assert {rank // replicas for rank in found.groups[0].ranks} == set(range(stages))


def laid(**more: pl.DataFrame) -> Laid:
    return lay_out({"actions": MEASURED, "ideal_actions": IDEAL, **more})


def test_ideal_actions_start_where_their_phase_does() -> None:
    assert laid().ideal.select("rank", "start_ns", "end_ns").rows() == [
        (0, 0, 10 * MS),
        (1, 10 * MS, 20 * MS),
        (1, 20 * MS, 40 * MS),
    ]


def test_the_script_is_told_steps_in_milliseconds_and_what_they_are_compared_with() -> None:
    made = content(laid(), [1])
    (step,) = made.facts["steps"]
    assert (step["start"], step["end"], step["ideal"]) == (0.0, 55.0, 40.0)
    assert made.caption == "Pipeline phase of step 7: 55.0 ms measured, 40.0 ms ideal: 15.0 ms longer."
    assert [rank["late"] for rank in made.facts["ranks"]] == [False, True]


def test_bars_of_an_unknown_schedule_are_not_called_microbatches() -> None:
    assert "are microbatches" in content(laid(), []).notes
    assert "are microbatches" not in content(laid(), [], ordered=False).notes


def test_the_page_says_which_kernels_it_lacks() -> None:
    many = kernels(*((0, i, 7, "gemm", 100 + 0.5 * i, 100.4 + 0.5 * i) for i in range(100)))
    tables = {"actions": MEASURED, "ideal_actions": IDEAL, "kernels": many}
    made = content(lay_out(tables, limit=20), [])
    assert "Of 100 spans of kernels this page holds 20" in made.notes
    assert made.bins
    whole = content(lay_out(tables), [])
    assert not whole.bins
    assert "this page holds" not in whole.notes


def test_a_job_without_a_pipeline_has_lanes_too() -> None:
    found = lay_out(expert_tables())
    assert set(found.device.spans["kind"].to_list()) <= {"late member", "transfer", "communication"}
    assert found.lanes.ranks == (0, 1, 2, 3)
    assert found.origin_ns >= EPOCH_NS
