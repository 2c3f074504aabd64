"""Calls, kernels and messages read from single events: every generation of arguments."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from traceanalyzer.schema import EVENTS, RANKS, conform
from traceanalyzer.tables.communication.calls import calls
from traceanalyzer.tables.communication.linked import linked_calls
from traceanalyzer.tables.communication.messages import cpu_messages
from traceanalyzer.tables.computation.kernels import kernels
from traceanalyzer.tables.computation.taxonomy import classify, unmatched_kernels
from traceanalyzer.tables.groups.listed import described_roles, process_groups

SEND_RECV = "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)"


def event(
    category: str, name: str, start: int, end: int, thread: str = "1", rank: int = 0, **args: Any
) -> dict[str, Any]:
    return {
        "rank": rank, "cycle": 0, "ph": "X", "category": category, "name": name, "thread": thread, "start_ns": start,
        "duration_ns": end - start, "stream": args.get("stream"), "correlation": args.get("correlation"),
        "args": json.dumps(args),
    }  # fmt: skip


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    return conform(pl.DataFrame(list(rows), infer_schema_length=None).with_row_index("index"), EVENTS)


def ranks(world: int, *groups: tuple[str, str, list[int]], present: int = 1) -> pl.DataFrame:
    listed = [
        {"pg_name": name, "pg_desc": desc, "pg_size": len(members), "ranks": members} for name, desc, members in groups
    ]
    rows = [{"rank": r, "cycle": 0, "world_size": world, "process_groups": json.dumps(listed)} for r in range(present)]
    return conform(pl.DataFrame(rows), RANKS)


def comms(start: int, end: int, name: str, **more: Any) -> dict[str, Any]:
    args = {
        "Collective name": name,
        "dtype": "BFloat16",
        "In msg nelems": 8,
        "Out msg nelems": 8,
        "Process Group Name": "2",
    }
    return event("cpu_op", "record_param_comms", start, end, **(args | more))


def test_arguments_of_2026_are_read_whole() -> None:
    row = comms(0, 9, "all_to_allv", **{
        "Process Group Ranks": "[4, 5]", "In split size": "[1, 7]", "Out split size": "[3, 5]", "Seq": 178,
        "Comms Id": 10_159_970_886_766_084_423,
    })  # fmt: skip
    call = calls(events(row), ranks(8)).row(0, named=True)
    assert call["kind"] == "all_to_all"
    assert call["group"] == "4,5"
    assert (call["send_bytes"], call["receive_bytes"]) == (16, 16)
    assert (call["send_splits"], call["receive_splits"]) == ([1, 7], [3, 5])
    assert (call["sequence_number"], call["communicator"]) == (178, 10_159_970_886_766_084_423)


def test_a_list_that_torch_cut_is_replaced_by_the_group_or_by_stride_and_never_read() -> None:
    cut = {"Process Group Ranks": "[0, 2, ..., 62]", "In split size": "[1, 2, ..., 3]"}
    strided = {"Global rank start": 0, "Global rank stride": 2, "Group size": 32}
    expected = ",".join(str(r) for r in range(0, 64, 2))
    table = events(comms(0, 9, "allreduce", **cut, **strided))
    assert calls(table, ranks(64))["group"].item() == expected
    named = calls(events(comms(0, 9, "allreduce", **cut)), ranks(64, ("2", "mesh_dp", [7, 5, 3])))
    assert named["group"].item() == "7,5,3"
    assert named["send_splits"].item() is None
    assert calls(events(comms(0, 9, "allreduce", **cut)), ranks(64))["group"].item() is None


def test_the_peer_of_an_old_message_is_read_from_its_range_and_made_global() -> None:
    table = events(
        comms(0, 9, "send", **{"Process Group Ranks": "[4, 6]"}),
        event("user_annotation", "nccl:send 0->1", 2, 8),
        comms(10, 19, "recv", **{"Process Group Ranks": "[4, 6]", "Src Rank": 6}),
    )
    assert calls(table, ranks(8)).sort("start_ns")["peer"].to_list() == [6, 6]


def test_waits_are_no_calls_and_ranges_count_only_without_arguments() -> None:
    ranged = event("user_annotation", "nccl:all_to_all", 1, 3, **{"Input Dims": [[6144]], "Input type": ["float"]})
    assert calls(events(ranged, comms(0, 9, "wait")), ranks(4)).rows(named=True)[0]["send_bytes"] == 6144 * 4
    both = calls(events(ranged, comms(0, 9, "all_to_all", **{"Process Group Ranks": "[0, 1]"})), ranks(4))
    assert both["group"].to_list() == ["0,1"]


def launch(start: int, correlation: int, thread: str = "1") -> dict[str, Any]:
    return event("cuda_driver", "cuLaunchKernelEx", start, start + 2, thread, correlation=correlation)


def kernel(start: int, end: int, correlation: int, name: str = SEND_RECV) -> dict[str, Any]:
    return event("kernel", name, start, end, "7", stream=7, correlation=correlation)


def test_a_coalesced_kernel_serves_the_calls_of_its_thread_since_the_last_one() -> None:
    pp = {"Process Group Ranks": "[0, 1, 2]"}
    table = events(
        comms(0, 2, "send", **pp, **{"Dst Rank": 1}),
        comms(3, 5, "recv", **pp, **{"Src Rank": 1}),
        launch(7, 1),
        comms(10, 12, "send", **pp, **{"Dst Rank": 2}),
        comms(11, 12, "send", thread="9", **pp, **{"Dst Rank": 2}),  # another thread, which launches nothing
        launch(14, 2),
        comms(20, 30, "recv", **pp, **{"Src Rank": 2}),
        launch(25, 3),
        kernel(100, 110, 1), kernel(120, 130, 2), kernel(140, 150, 3), kernel(10, 20, 99),
    )  # fmt: skip
    linked = linked_calls(kernels(table), calls(table, ranks(3)))
    served = linked.select("start_ns", "kind", "peer", "coalesced").rows()
    assert served == [
        (10, None, None, False),  # launched before the capture
        (100, "send", 1, True),
        (100, "receive", 1, True),
        (120, "send", 2, True),
        (140, "receive", 2, False),
    ]


def test_a_call_is_not_given_to_a_kernel_that_cannot_serve_it() -> None:
    table = events(
        comms(0, 2, "send", **{"Process Group Ranks": "[0, 1]", "Dst Rank": 1}),
        launch(7, 1),
        kernel(100, 110, 1, "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"),
    )
    assert linked_calls(kernels(table), calls(table, ranks(2)))["kind"].to_list() == [None]


def test_kernels_take_their_step_from_the_launch_and_copies_their_direction() -> None:
    table = events(
        event("user_annotation", "ProfilerStep#5", 0, 50),
        event("user_annotation", "ProfilerStep#6", 60, 100),
        event("gpu_user_annotation", "ProfilerStep#5", 500, 900, "7"),
        launch(10, 1), launch(55, 2), launch(70, 3), launch(120, 4),
        kernel(1000, 1100, 1, "volta_sgemm_128x64_tn"), kernel(1100, 1200, 2, "volta_sgemm_128x64_tn"),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 1200, 1300, "7", stream=7, correlation=3),
        event("gpu_memcpy", "Memcpy PtoP (Device -> Device)", 1300, 1400, "7", stream=7, correlation=4),
        kernel(5, 6, 99, "volta_sgemm_128x64_tn"),
    )  # fmt: skip
    found = kernels(table).select("start_ns", "step", pl.col("kind").cast(pl.String), "operation").rows()
    assert found == [
        (5, None, "gemm", None),
        (1000, 5, "gemm", None),
        (1100, 5, "gemm", None),  # between two ranges: still the earlier step's
        (1200, 6, "copy", "d2h"),
        (1300, None, "communication", "peer_copy"),  # launched after the last step
    ]


@pytest.mark.parametrize(
    ("name", "kind", "operation"),
    [
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "communication", "all_reduce"),
        (
            "ncclKernel_AllReduce_RING_LL_Sum_float(ncclDevComm*, unsigned long, ncclWork*)",
            "communication",
            "all_reduce",
        ),
        ("ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*)", "communication", "send_recv"),
        ("ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)", "communication", "unknown"),
        ("ncclSymkDevKernel_AllGather_LL", "communication", "all_gather"),
        ("void deep_ep::internode::dispatch<false, 8, true>(int4*)", "communication", "all_to_all"),
        ("void deep_ep::intranode::notify_dispatch<8>(int const*)", "barrier", "barrier"),
        ("void dpsk::ep::cuda::get_dispatch_layout<256, 32, 8>(long const*)", "other", None),
        ("nvshmemi_transfer_rma_p2p", "communication", "unknown"),
        ("barrier_on_stream_kernel_nvshmem_barrier", "barrier", "barrier"),
        ("void cross_device_reduce_1stage<__nv_bfloat16, 8>(RankData*)", "communication", "all_reduce"),
        ("void cutlass::device_kernel<flash::FlashAttnBwdSm90<flash::CollectiveMainloopBwdSm90>>", "attention", None),
        ("nvjet_tst_192x192_64x3_2x1_v_bz_coopB_NNN", "gemm", None),
        ("Cijk_Alik_Bljk_B_BS_BH_Bias_HA_S_SAV_UserArgs_MT256x128x64", "gemm", None),
        ("triton_red_fused__log_softmax__log_softmax_backward_data_div_mm_backward_mul_31", "other", None),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>", "other", None),
        ("void moe::_combined_routing_kernel<reduce_scatter>", "other", None),
    ],
)
def test_what_kernels_do_by_name(name: str, kind: str, operation: str | None) -> None:
    row = classify(pl.Series([name])).row(0, named=True)
    assert (row["kind"], row["operation"]) == (kind, operation)


def test_names_that_no_rule_knows_are_listed_by_time() -> None:
    table = kernels(
        events(kernel(0, 5, 1, "xyzzy"), kernel(5, 7, 2, "plugh"), kernel(7, 8, 3, "plugh"), kernel(9, 99, 4))
    )
    times = table.group_by(pl.col("name").cast(pl.String)).agg(
        pl.len().cast(pl.Int64).alias("num_kernels"), (pl.col("end_ns") - pl.col("start_ns")).sum().alias("duration_ns")
    )
    assert unmatched_kernels(times).rows() == [("xyzzy", 1, 5), ("plugh", 2, 3)]


@pytest.mark.parametrize(
    ("description", "role"),
    [
        ("mesh_pp", "pp"), ("mesh_dp_shard_cp", "dp"), ("mesh_ep", "ep"), ("mesh_tp", "tp"),
        ("PIPELINE_MODEL_PARALLEL_GROUP", "pp"), ("EMBEDDING_GROUP", "pp"), ("TENSOR_MODEL_PARALLEL_GROUP", "tp"),
        ("EXPERT_MODEL_PARALLEL_GROUP", "ep"), ("EXPERT_DATA_PARALLEL_GROUP", "dp"), ("DATA_PARALLEL_GROUP_WITH_CP", "dp"),
        ("CONTEXT_PARALLEL_GROUP", "cp"), ("default_pg", None), ("undefined", None),
    ],
)  # fmt: skip
def test_roles_by_description(description: str, role: str | None) -> None:
    roles = described_roles(process_groups(ranks(4, ("3", description, [0, 2]))))
    assert roles["role"].cast(pl.String).to_list() == ([role] if role else [])


def test_messages_of_gloo_name_their_peer_by_place_in_the_pipeline() -> None:
    def call(rank: int, name: str, place: int, start: int, wait_end: int) -> list[dict[str, Any]]:
        verb = {"c10d::send": "gloo:send", "c10d::recv_": "gloo:recv"}[name]
        shape = {"Input Dims": [[4, 32]], "Input type": ["float"]}
        return [
            event("cpu_op", name, start, start + 10, "1", rank, **{"Concrete Inputs": ["", "", str(place), "0"]}),
            event("user_annotation", verb, start + 5, wait_end, "1", rank, **shape),
        ]

    table = events(
        *call(0, "c10d::send", 1, 100, 400),
        *call(2, "c10d::recv_", 0, 50, 300),
        *call(2, "c10d::send", 0, 500, 600),
        *call(0, "c10d::recv_", 1, 450, 700),
    )
    windows = pl.DataFrame(
        {"rank": [0, 2], "step": [1, 1], "start_ns": [0, 0], "end_ns": [1000, 1000]},
        schema_overrides={"rank": pl.Int32, "step": pl.Int32},
    )
    known = ranks(4, ("0", "default_pg", [0, 1, 2, 3]), ("1", "mesh_pp", [0, 2]), present=3).filter(pl.col("rank") != 1)
    found = cpu_messages(table, windows, known, None)
    assert found.select("rank", pl.col("direction").cast(pl.String), "peer", "end_ns", "bytes").rows() == [
        (0, "send", 2, None, 512),
        (0, "receive", 2, 700, 512),
        (2, "receive", 0, 300, 512),
        (2, "send", 0, None, 512),
    ]
    assert found["match"].n_unique() == 2
    assert set(found["role"].cast(pl.String)) == {"pp"}
