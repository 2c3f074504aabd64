"""What backward computes again: operators and kernels by hand, real checkpoints on CPU, other people's traces."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import reports
from traceanalyzer.analysis.assemble import Run, analyze, read, with_declaration
from traceanalyzer.gaps.efficiency.declaration import Declaration
from traceanalyzer.measurements.efficiency.recompute import forward_operators, recomputed
from traceanalyzer.model import ModelShape
from traceanalyzer.review import Review
from traceanalyzer.schema import EVENTS, KERNELS, conform
from traceanalyzer.traces.read import read_traces

if TYPE_CHECKING:
    from collections.abc import Callable

NOTHING = pl.DataFrame(schema=KERNELS)
LINEAR, ATTENTION = "aten::addmm", "aten::_scaled_dot_product_flash_attention"
LAYER = [LINEAR, ATTENTION, LINEAR]


class Timeline:
    """One thread's operators, each 10 ns long; a group holds its members."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.now = 0
        self.thread = "1"

    def run(self, name: str, *inside: Any, **args: Any) -> Timeline:
        """`inside`: names, or calls that add more."""
        row = {"name": name, "thread": self.thread, "start_ns": self.now, "args": json.dumps(args) if args else None}
        self.rows.append(row)
        self.now += 1
        for item in inside:
            self.run(item) if isinstance(item, str) else item()
        self.now += 10
        row["duration_ns"] = self.now - row["start_ns"]
        return self

    def forward(self, *names: str, inside: tuple[str, ...] = ()) -> None:
        """Recorded for autograd."""
        for name in names:
            self.run(name, *inside, **{"Sequence number": 7, "Fwd thread id": 0})

    def backward(self, node: str, *inside: Any) -> Timeline:
        """A node that autograd evaluates."""
        own = {"Sequence number": 7, "Fwd thread id": 1}
        return self.run(f"autograd::engine::evaluate_function: {node}", partial(self.run, node, *inside, **own), **own)

    def events(self) -> pl.DataFrame:
        place = {"rank": 0, "cycle": 0, "process": "1", "category": "cpu_op", "ph": "X"}
        return conform(pl.DataFrame([place | {"index": index} | row for index, row in enumerate(self.rows)]), EVENTS)


def launched(*names: str, at: list[int] | None = None, kind: str = "attention") -> pl.DataFrame:
    rows = [
        {"rank": 0, "cycle": 0, "step": 1, "name": name, "kind": kind, "launch_thread": "1",
         "launch_start_ns": at[index] if at else None}
        for index, name in enumerate(names)
    ]  # fmt: skip
    return conform(pl.DataFrame(rows), KERNELS)


def told(timeline: Timeline, kernels: pl.DataFrame = NOTHING) -> str | None:
    return recomputed(timeline.events(), kernels).value


def trained(*layers: list[str]) -> Timeline:
    """Forward of `layers` and logits."""
    timeline = Timeline()
    for layer in layers:
        timeline.forward(*layer)
    timeline.forward(LINEAR)
    return timeline


def gradients(timeline: Timeline, times: int) -> Timeline:
    for _ in range(times):
        timeline.backward("AddmmBackward0", "aten::mm", "aten::mm")
    return timeline


def test_gradients_alone_are_no_recomputation() -> None:
    found = recomputed(gradients(trained(LAYER, LAYER), 5).events(), NOTHING)
    assert (found.value, found.share) == ("none", 0.0)
    assert "none of 5 matrix multiplications and 2 attentions" in found.basis


def test_checkpoint_with_hooks_runs_forward_inside_a_gradient() -> None:
    timeline = gradients(trained(LAYER, LAYER), 1)
    for _ in range(2):
        timeline.backward("AddmmBackward0", partial(timeline.forward, *LAYER), "aten::mm", "aten::mm")
    found = recomputed(timeline.events(), NOTHING)
    assert (found.value, found.share) == ("full", 6 / 7)
    assert "4 of 5 matrix multiplications and 2 of 2 attentions" in found.basis


def test_reentrant_checkpoint_evaluates_gradients_inside_itself() -> None:
    timeline = trained(LAYER, LAYER)
    for _ in range(2):
        nested = partial(timeline.backward, "AddmmBackward0", "aten::mm", "aten::mm")
        timeline.backward("CheckpointFunctionBackward", partial(timeline.forward, *LAYER), nested, nested)
    assert told(timeline) == "full"


def test_gradients_on_a_thread_of_their_own() -> None:
    """As on devices: the loop's thread waits, and what it runs at the same time is no recomputation."""
    timeline = trained(LAYER)
    timeline.thread = "2"
    timeline.backward("AddmmBackward0", partial(timeline.forward, *LAYER), "aten::mm")
    timeline.thread, timeline.now = "1", timeline.now - 60
    timeline.forward(LINEAR)
    found = recomputed(timeline.events(), NOTHING)
    assert (found.value, found.share) == ("full", 3 / 5)


def test_attention_alone_is_selective_fused_or_not() -> None:
    for attention in ([ATTENTION], ["aten::baddbmm", "aten::bmm"]):
        timeline = gradients(trained([LINEAR, *attention, LINEAR]), 3)
        timeline.backward("CheckpointFunctionBackward", partial(timeline.forward, *attention))
        assert told(timeline) == "selective"


def test_some_layers_are_partial() -> None:
    timeline = trained(LAYER, LAYER)
    timeline.backward("CheckpointFunctionBackward", partial(timeline.forward, *LAYER))
    found = recomputed(timeline.events(), NOTHING)
    assert (found.value, found.share) == ("partial", 3 / 7)


def test_what_was_only_begun_on_cpu_is_not_counted() -> None:
    timeline = trained(LAYER)
    again = partial(timeline.forward, LINEAR, inside=("aten::expand",))
    begun = partial(timeline.forward, LINEAR, inside=("aten::detach", "detach"))
    attention = partial(timeline.forward, ATTENTION, inside=("aten::detach", "aten::empty"))
    timeline.backward("AddmmBackward0", again, attention, begun)
    rows = forward_operators(timeline.events(), NOTHING)
    assert rows.filter("again")["executed"].to_list() == [True, True, False]
    assert "1 more begun and not computed" in recomputed(timeline.events(), NOTHING).basis


def test_what_launched_nothing_on_a_device_is_not_counted() -> None:
    timeline = Timeline()
    timeline.forward(LINEAR, LINEAR)
    timeline.backward("AddmmBackward0", partial(timeline.forward, LINEAR, LINEAR))
    starts = [row["start_ns"] for row in timeline.rows if row["name"] == LINEAR]
    rows = forward_operators(timeline.events(), launched(*"abc", at=[start + 1 for start in starts[:3]], kind="gemm"))
    assert rows.select("again", "executed").rows() == [(False, True), (False, True), (True, True), (True, False)]


def test_what_is_unknown_says_why() -> None:
    def reason(timeline: Timeline, kernels: pl.DataFrame = NOTHING) -> str:
        found = recomputed(timeline.events(), kernels)
        assert found.value is None
        return found.basis

    assert "no operators of a backward pass" in reason(trained(LAYER))
    old = Timeline().run(LINEAR).run("autograd::engine::evaluate_function: AddmmBackward0", "aten::mm")
    assert "have no sequence numbers" in reason(old)
    twice = trained()
    twice.backward("AddmmBackward0", partial(twice.forward, LINEAR, LINEAR))
    assert "gradients of gradients" in reason(twice)
    compiled = trained(LAYER)
    compiled.backward("CompiledFunctionBackward", "aten::mm")
    assert "compiled graphs" in reason(compiled)
    only_gradients = Timeline().backward("AddmmBackward0", "aten::mm")
    assert "no matrix multiplication of a forward pass" in reason(
        only_gradients.backward("CheckpointFunctionBackward", partial(only_gradients.forward, LINEAR)).backward("X")
    )


FLASH_2 = ("void pytorch_flash::flash_fwd_kernel<T>", "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<T>",
           "void pytorch_flash::flash_bwd_dot_do_o_kernel<T>", "void pytorch_flash::flash_bwd_convert_dq_kernel<T>")  # fmt: skip
KERNEL_NAMES = [
    FLASH_2,
    ("flash::enable_sm90<flash::FlashAttnFwdSm90<M>>", "flash::enable_sm90<flash::FlashAttnBwdSm90<M>>",
     "flash::FlashAttnBwdPreprocess<M>", "flash::FlashAttnBwdPostprocessConvertdQ<M>"),
    ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(P)", "fmha_cutlassB_bf16_aligned_64x64_k64_sm80(P)"),
    ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3", "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16"),
    ("attn_fwd", "bwd_kernel_dk_dv", "bwd_kernel_dq", "bwd_preprocess"),
    ("triton_tem_fused_flex_attention_3", "triton_tem_fused_flex_attention_backward_7"),
]  # fmt: skip


@pytest.mark.parametrize("names", KERNEL_NAMES, ids=lambda names: names[0][:24])
def test_attention_kernels_are_counted_without_those_beside_them(names: tuple[str, ...]) -> None:
    forward, *backward = names
    events = pl.DataFrame(schema=EVENTS)
    once = recomputed(events, launched(*[forward, *backward] * 4))
    assert (once.value, once.basis[:50]) == ("none", "attention kernels: 4 forward, 4 backward launches;")
    twice = recomputed(events, launched(*[forward, forward, *backward] * 4))
    assert (twice.value, "8 forward, 4 backward" in twice.basis) == ("partial", True)
    assert recomputed(events, launched(*[forward] * 3, *[forward, *backward] * 4)).value is None
    assert recomputed(events, launched(forward)).value is None


def test_attention_kernels_speak_where_operators_do_not_see_attention() -> None:
    timeline = gradients(trained(), 1)
    forward, *backward = FLASH_2
    kernels = launched(forward, forward, *backward, LINEAR, at=[500, 501, 502, 503, 504, 1])
    assert recomputed(timeline.events(), kernels).basis.startswith("attention kernels: 2 forward, 1 backward")


DEPTH, WIDTH, LENGTH = 3, 32, 16


def profiled(kind: str, path: Path, *, reentrant: bool) -> Path:
    """Two profiled steps of a small transformer with `torch.utils.checkpoint` around what `kind` says."""
    torch = pytest.importorskip("torch")
    from torch.nn import functional  # noqa: PLC0415 - torch is not needed by the other tests
    from torch.utils.checkpoint import checkpoint  # noqa: PLC0415

    torch.manual_seed(0)

    def weights(*shape: int) -> Any:
        return torch.nn.Parameter(torch.randn(*shape) / 8)

    layers = [[weights(3 * WIDTH, WIDTH), weights(WIDTH, WIDTH), weights(4 * WIDTH, WIDTH), weights(WIDTH, 4 * WIDTH)]
              for _ in range(DEPTH)]  # fmt: skip
    logits, table = weights(50, WIDTH), weights(50, WIDTH)
    tokens = torch.randint(50, (2, LENGTH))
    core = partial(functional.scaled_dot_product_attention, is_causal=True)

    def again(function: Callable[..., Any], *args: Any) -> Any:
        return checkpoint(function, *args, use_reentrant=reentrant)

    def layer(x: Any, qkv: Any, out: Any, up: Any, down: Any) -> Any:
        heads = functional.linear(x, qkv).view(2, LENGTH, 3, 4, WIDTH // 4).permute(2, 0, 3, 1, 4)
        mixed = again(core, *heads) if kind == "selective" else core(*heads)
        x = x + functional.linear(mixed.transpose(1, 2).reshape(2, LENGTH, WIDTH), out)
        return x + functional.linear(functional.gelu(functional.linear(x, up)), down)

    def step() -> None:
        x = table[tokens]
        for index, parts in enumerate(layers):
            whole = kind == "full" or (kind == "partial" and index == 0)
            x = again(layer, x, *parts) if whole else layer(x, *parts)
        functional.cross_entropy(functional.linear(x, logits).flatten(0, 1), tokens.flatten()).backward()

    schedule = torch.profiler.schedule(wait=0, warmup=1, active=2, repeat=1)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True, schedule=schedule,
        on_trace_ready=lambda done: done.export_chrome_trace(str(path)),
    ) as profiler:  # fmt: skip
        for _ in range(3):
            step()
            profiler.step()
    return path


MODEL = ModelShape(num_layers=DEPTH, hidden_size=WIDTH, num_heads=4, num_kv_heads=4, head_size=8, ffn_size=4 * WIDTH, vocab_size=50)  # fmt: skip


def reviewed(run: Run, recompute: str | None = None) -> Review:
    given = Declaration(
        model=MODEL, tokens_per_step=2 * LENGTH, sequence_length=LENGTH, num_devices=1, dtype="float32",
        peak_flops_per_device=1e15, recompute=recompute,
    )  # fmt: skip
    return analyze(with_declaration(run, given)).review


@pytest.mark.sweep(2)
@pytest.mark.runs
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("kind", ["none", "selective", "full", "partial"])
def test_real_checkpoints_are_detected(kind: str, tmp_path: Path, *, reentrant: bool) -> None:
    run = read(str(profiled(kind, tmp_path / "rank0.json", reentrant=reentrant)))
    review = reviewed(run)
    fact = review.job.recompute
    assert fact is not None
    assert (fact.value, fact.source) == (kind, "inferred")
    # Per step: 3 layers of 4 multiplications, and logits; with hooks torch stops before a layer's last one.
    again = {"none": 0, "selective": 0, "full": 24 if reentrant else 18, "partial": 8 if reentrant else 6}[kind]
    if kind != "none":
        assert f"operators: {again} of 26 matrix multiplications" in (fact.basis or "")
        assert re.search(rf"recompute +{kind} +inferred +0.900 +operators", reports.text(review, {}))
    mfu = review.mfu
    assert mfu.mfu is not None
    if kind == "partial":
        assert mfu.hfu is None
        assert "is not known" in next(item.reason for item in review.quality.withheld if item.metric == "mfu.hfu")
        return
    # By hand per token: multiplications of a layer 2·12·32², attention over half of 16 keys 4·32·8.
    extra = {"none": 0.0, "selective": 4 * 32 * 8, "full": 2 * 12 * 32**2 + 4 * 32 * 8}[kind] * DEPTH
    assert (mfu.hardware_flops_per_step or 0) - (mfu.flops_per_step or 0) == pytest.approx(extra * 2 * LENGTH)
    assert all(finding.passed for finding in review.findings if finding.id == "flops.as_declared")
    too_high = [term.text for term in review.method if term.term == "HFU"]
    assert [text[:44] for text in too_high] == (
        ["Too high: recomputation stopped before 6 ope"] if kind == "full" and not reentrant else []
    )
    wrong = reviewed(run, "none" if kind == "full" else "full")
    (finding,) = [finding for finding in wrong.findings if finding.id == "recompute.as_declared"]
    assert (finding.passed, wrong.job.recompute.source) == (False, "declared")


CORPUS = os.environ.get("TRACEANALYZER_CORPUS")


@pytest.mark.skipif(not CORPUS, reason="TRACEANALYZER_CORPUS does not name the folder of other people's traces")
@pytest.mark.parametrize(
    ("folder", "value", "basis"),
    [
        ("nanogpt-h100/baseline", "none", "attention kernels: 40 forward, 40 backward"),
        ("deepseek-dualpipe-h800", "none", "attention kernels: 4 forward, 4 backward"),
        ("megatron-tp2-v100", "none", "operators: none of 18"),
        ("singles-h100/Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz", None, "no operators of a backward pass"),
    ],
)
def test_other_peoples_traces(folder: str, value: str | None, basis: str) -> None:
    path = Path(CORPUS or "") / folder
    from traceanalyzer.tables.computation.kernels import kernels  # noqa: PLC0415 - used here alone

    events = read_traces(str(path)).events
    found = recomputed(events, kernels(events))
    assert (found.value, found.basis.startswith(basis)) == (value, True)
