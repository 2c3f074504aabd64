"""What kernels do by their names: libraries of communication, false friends, rules from a file, unknown names."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import polars as pl
import pytest

from traceanalyzer.errors import InputError
from traceanalyzer.options.kernel_rules import load_kernel_rules
from traceanalyzer.tables.computation.taxonomy import classify, parse_kernel_rules, unknown_names

EXCHANGES = {
    "(anonymous namespace)::allToAllV(void*, void*, long*)": "all_to_all",
    "void (anonymous namespace)::allToAllV_2d<true>(void*, void*)": "all_to_all",
    "void (anonymous namespace)::exchangeSplitAndOffset_2d<false>(long*)": "all_to_all",
    "void symm_mem::all_to_all_vdev_2d<8>()": "all_to_all",
    "multimem_reduce_scatter_kernel<__nv_bfloat16>": "reduce_scatter",
    "void uccl::internode_ll::combine<true, 7168, 9>(void*)": "all_to_all",
    "void deep_ep::internode::dispatch<false, 4>(void*)": "all_to_all",
    "void mori::moe::EpDispatchInterNodeV1Kernel<__hip_bfloat16>(mori::moe::EpDispatchCombineArgs<__hip_bfloat16>)": "all_to_all",
    "EpCombineIntraNodeKernel_bf16": "all_to_all",
    "void pplx::combineKernel<64>(int*)": "all_to_all",
    "a2a_dispatch_send_kernel": "all_to_all",
    "_combine_all_to_all_kernel": "all_to_all",
    "void mscclpp::collective::allreducePacket<float>(float*)": "all_reduce",
    "void mscclpp::executionKernel<int, mscclpp::LL16Packet>(int)": "unknown",
    "void aiter::quickreduce::allreduce_prototype_twoshot<AllReduceTwoshot<__half>>(__half const*)": "all_reduce",
    "void aiter::cross_device_reduce_2stage<__hip_bfloat16, 4>(int)": "all_reduce",
    "void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<4>(int)": "all_reduce",
    "void tensorrt_llm::kernels::moe_comm::moeAllToAllKernel<2>(int)": "all_to_all",
    "moeA2ACombineKernel": "all_to_all",
    "kuserbuffers_pushrecv(int, int, int*)": "send_recv",
    "userbuffers_fp16_sum_inplace_gpu_mc_ag<8>(int)": "all_gather",
    "userbuffers_fp16_sum_inplace_gpu_rr_rs_oop<4>(int)": "reduce_scatter",
    "nvshmemi_broadcastmem_kernel": "broadcast",
    "rcclGenericKernel<4, false>(void*)": "unknown",
    "hcom_alltoallv__911_3_1": "all_to_all",
    "hcom_reduceScatter__911_4_1": "reduce_scatter",
    "hcom_batchSendRecv__911_4_1": "send_recv",
    "aiv_all_to_all_vc_910b_half": "all_to_all",
    "aiv_all_reduce_deter_910b_smalldata_float": "all_reduce",
    "aiv_reduce_scatter_bfloat16_t": "reduce_scatter",
    "oneccl_allgatherv_large_kernel": "all_gather",
}
COMPUTATION = [
    "void moe_permute_dispatch_kernel<4>",
    "_combine_topk_weights_kernel",
    "sm90_xmma_gemm_bf16_dispatch_combine",
    "void flash::flash_fwd_splitkv_combine_kernel<Flash_fwd_kernel_traits>()",
    "AllToAllVTransform_elementwise",
    "triton_poi_fused_all_reduce_3",
    "void deep_ep::internode::get_dispatch_layout<256>(long*)",
    "moeA2APrepareDispatchKernel",
    "aiv_matmul_reduce_tile",
    "void at::native::reduce_kernel<512, 1>()",
    "void cutlass::device_kernel<allgather_shape_gemm_scheduler>",
]
BARRIERS = [
    "void deep_ep::internode_ll::clean_low_latency_buffer<256>(int*)",
    "void uccl::intranode::notify_dispatch<4>(int*)",
    "kuserbuffers_inc(int*)",
    "nvshmemi_sync_kernel",
]


def classified(names: list[str]) -> dict[str, tuple[str, str | None]]:
    return {row["name"]: (row["kind"], row["operation"]) for row in classify(pl.Series(names)).to_dicts()}


def test_libraries_of_communication() -> None:
    assert classified(list(EXCHANGES)) == {name: ("communication", kind) for name, kind in EXCHANGES.items()}


def test_false_friends_stay_computation() -> None:
    assert {kind for kind, _ in classified(COMPUTATION).values()} <= {"other", "gemm", "attention"}


def test_barriers() -> None:
    assert classified(BARRIERS) == dict.fromkeys(BARRIERS, ("barrier", "barrier"))


def test_every_rule_has_a_source_that_the_head_explains() -> None:
    text = resources.files("traceanalyzer").joinpath("data/kernels.csv").read_text(encoding="utf-8")
    head = " ".join(line.strip("# ") for line in text.splitlines() if line.startswith("#"))
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        assert row["source"]
        for source in row["source"].split("; "):
            assert f" {source} " in head


def test_rules_of_a_file_come_first(tmp_path: Path) -> None:
    file = tmp_path / "rules.csv"
    file.write_text(
        '# ours\npattern,kind,operation,note\nfancy_exchange|other_name,communication,all_to_all,x\n"gemm{1,2}",other,,\n'
    )
    rules = load_kernel_rules(str(file))
    found = classify(pl.Series(["my_fancy_exchange_kernel", "ampere_gemm", "unheard"]), rules)
    assert found.sort("name").rows() == [
        ("ampere_gemm", "other", None, True),
        ("my_fancy_exchange_kernel", "communication", "all_to_all", True),
        ("unheard", "other", None, False),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("(,communication,all_to_all", "rule 1: '\\(' is not a regular expression"),
        ("a,chatter,", "there is no kind called 'chatter'"),
        ("a,communication,", "there is no operation called ''"),
    ],
)
def test_rules_that_are_none(row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_kernel_rules(["pattern,kind,operation", row], "rules.csv")


def test_a_file_without_the_columns(tmp_path: Path) -> None:
    file = tmp_path / "rules.csv"
    file.write_text("name,kind\na,b\n")
    with pytest.raises(InputError, match="not a table of kernel rules"):
        load_kernel_rules(str(file))
    with pytest.raises(InputError, match="missing"):
        load_kernel_rules(str(tmp_path / "missing.csv"))


def kernels(unknown_ns: int) -> pl.DataFrame:
    rows = [("gemm", "gemm", True, 1000), ("mystery", "other", False, unknown_ns), ("Memcpy", "copy", True, 10**6)]
    return pl.DataFrame(
        [(name, kind, matched, 0, ns) for name, kind, matched, ns in rows],
        schema=["name", "kind", "matched", "start_ns", "end_ns"],
        orient="row",
    )


def test_unknown_names_are_reported_where_they_matter() -> None:
    assert unknown_names(kernels(52)) is None
    told = unknown_names(kernels(250))
    assert told is not None
    assert told.startswith("20.0% of the kernels' time")
    assert "mystery 20.0%" in told
    assert "--kernel-rules" in told
