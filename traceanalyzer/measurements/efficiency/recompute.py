"""Whether backward computes parts of the forward pass again, from what a trace recorded: operators, attention kernels.

* **Operators.** Autograd runs gradients without recording them for autograd; a checkpoint runs its forward again *with*
  that. So a matrix multiplication or attention forward inside `autograd::engine::evaluate_function` that carries a
  forward sequence number of its own (`Fwd thread id` 0) is recomputed: both kinds of `torch.utils.checkpoint`, Megatron's
  and TransformerEngine's alike. What such an operator only began (torch stops a recomputation as soon as the last saved
  tensor is there) or took from a cache (selective checkpoint contexts) is not counted: on devices it launched nothing,
  on CPU it holds nothing but the packing of saved tensors.
* **Attention kernels.** Fused attention launches as many forward as backward kernels per step; twice as many where it
  is recomputed. These do not show whether the rest of the layer is recomputed too.

A function that saves little and computes again by itself, without autograd recording (fused losses, some normalisations),
is not seen in either.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.measurements.efficiency.shape_flops import ATTENTION, FACTORS
from traceanalyzer.measurements.ledger.intervals import union
from traceanalyzer.review.vocabulary import Recomputation

_THREAD = ["rank", "cycle", "thread"]
_BACKWARD = "autograd::engine::evaluate_function"
_COMPILED = r"CompiledFunctionBackward|CompiledFxGraph|^Torch-Compiled Region"
_RECORDED = r'"Fwd thread id"\s*:'
_RECORDED_FORWARD = r'"Fwd thread id"\s*:\s*"?0\b'
_PACKING = ["aten::detach", "detach", "PythonDispatchMode"]
_UNFUSED = ["aten::bmm", "aten::baddbmm"]
"""Core attention where no fused one is recorded."""
_GEMM = r"^(_Linear|_LayerNormLinear|_LayerNormMLP|_GroupedLinear|LinearWithGradAccumulation\w*)$"
_ATTENTION = r"^(FlashAttn\w*Func|FusedAttnFunc\w*|aten::_(flash|efficient)_attention_forward|flash_attn\w*::_?flash_attn\w*forward)$"
_GRADIENT = r"(?i)backward"
_KERNEL_BACKWARD = r"(?i)flash_bwd|FlashAttnBwd|fmha_?(cutlassB|bwd)|flex_attention_backward|sdpa.*bprop|(attn|mha)_bwd|bwd_kernel_(dk_dv|fuse)"
_KERNEL_FORWARD = (
    r"(?i)flash_fwd|FlashAttnFwd|compute_attn_ws|fmha_?(cutlassF|fwd)|flex_attention|sdpa.*fprop|(attn|mha)_fwd"
)
_KERNEL_BESIDE = r"(?i)preprocess|postprocess|convert_?dq|combine|dot_?do_?o|prepare_varlen|bwd_kernel_dq(\W|$)|^triton_(poi|per|red)_"
"""Kernels that run beside the one that computes attention."""
_TOLERANCE = 0.05
_MOST_OF_GEMMS = 0.5
"""Logits, and the last multiplication of each layer where recomputation stops early, are not computed again."""
_MOST_WITHOUT_ATTENTION = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """What backward computes again."""

    value: Recomputation | None
    """`none`, `selective` (core attention alone), `full` (layers), `partial` (something else, or unclear which); None: unknown."""
    basis: str
    """What says so, or why nothing does."""
    confidence: float = 0.0
    share: float | None = None
    """Forward matrix multiplications and attentions run again ÷ run at first; None if operators do not show it."""
    num_begun: int = 0
    """Forward operators begun again and not computed."""


def recomputed(events: pl.DataFrame, kernels: pl.DataFrame) -> Recomputed:
    """Judge the captured steps of one or several ranks of a job. `events` is `EVENTS`, `kernels` is `KERNELS`."""
    by_kernel = _by_kernels(kernels)
    if not _names(events, _BACKWARD):
        return by_kernel or Recomputed(value=None, basis="no operators of a backward pass in the capture")
    counted = forward_operators(events, kernels)
    found = _by_operators(counted)
    if found.value == "none" and _names(events, _COMPILED):
        reason = "compiled graphs: what they recompute has no operator of its own"
        return by_kernel or Recomputed(value=None, basis=reason)
    # Attention that ran in kernels of operators not known here (custom functions) speaks for what these do not see.
    unseen = found.value == "none" and (
        counted.filter(pl.col("name").is_in(_UNFUSED) | (pl.col("kind") == "gemm")).height == counted.height
        or (by_kernel is not None and by_kernel.value == "partial")
    )
    return by_kernel if by_kernel and (found.value is None or unseen) else found


def tell_recomputation(name: pl.Expr) -> pl.Expr:
    """Whether `recomputed` looks at events of a rank with kernels that are called `name`, a text."""
    read = name.is_in([*FACTORS, *ATTENTION]) | name.str.contains(_GEMM) | name.str.contains(_ATTENTION)
    return read | name.str.contains(_BACKWARD) | name.str.contains(_COMPILED)


def forward_operators(events: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """Outermost matrix multiplications and attention forwards: `name`, `kind`, `again`, `executed`, `recorded`, with their place.

    `again`: inside autograd's evaluation; rows that belong to the gradients themselves are left out. `recorded`: the
    profiler wrote whether autograd recorded it.
    """
    operators = events.filter((pl.col("category") == "cpu_op") & (pl.col("ph") == "X")).with_columns(
        (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns")
    )
    names = operators["name"].cast(pl.String)
    fused = pl.col("text").is_in([name for name in ATTENTION if "backward" not in name])
    kinds = (
        pl.DataFrame({"text": names.unique()})
        .with_columns(
            pl.when(~pl.col("text").str.contains(_GRADIENT) & (fused | pl.col("text").str.contains(_ATTENTION)))
            .then(pl.lit("attention"))
            .when(pl.col("text").is_in(list(FACTORS)) | pl.col("text").str.contains(_GEMM))
            .then(pl.lit("gemm"))
            .alias("kind")
        )
        .drop_nulls("kind")
    )
    found = operators.with_columns(names.alias("text")).join(kinds, on="text")
    found = _outermost(found)
    back = union(operators.filter(names.str.starts_with(_BACKWARD)).select(*_THREAD, "start_ns", "end_ns"), _THREAD)
    placed = found.sort("start_ns").join_asof(
        back.rename({"start_ns": "back_from", "end_ns": "back_to"}).sort("back_from"),
        left_on="start_ns",
        right_on="back_from",
        by=_THREAD,
        check_sortedness=False,
    )
    again = (pl.col("start_ns") < pl.col("back_to")).fill_null(value=False)
    args = pl.col("args").fill_null("")
    kept = placed.with_columns(again.alias("again"), args.str.contains(_RECORDED).alias("recorded")).filter(
        ~pl.col("again") | args.str.contains(_RECORDED_FORWARD)
    )
    if "attention" not in kept["kind"].unique():
        kept = kept.with_columns(
            pl.when(pl.col("text").is_in(_UNFUSED)).then(pl.lit("attention")).otherwise("kind").alias("kind")
        )
    columns = [*_THREAD, "index", "start_ns", "end_ns", "text", "kind", "again", "recorded"]
    return _with_executed(kept.select(columns), operators, kernels).rename({"text": "name"})


def _names(events: pl.DataFrame, pattern: str) -> bool:
    return bool(events["name"].unique().cast(pl.String).str.contains(pattern).any())


def _outermost(operators: pl.DataFrame) -> pl.DataFrame:
    ordered = operators.sort(*_THREAD, "start_ns", "end_ns", descending=[False] * 4 + [True])
    reach = pl.col("end_ns").cum_max().shift(1).over(_THREAD)
    return ordered.filter((pl.col("start_ns") >= reach).fill_null(value=True))


def _with_executed(found: pl.DataFrame, operators: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """Add `executed`: on ranks with kernels, it launched one; elsewhere it holds more than the packing of saved tensors."""
    launches = kernels.filter(pl.col("launch_start_ns").is_not_null()).select(
        "rank", "cycle", pl.col("launch_thread").alias("thread"), pl.col("launch_start_ns").alias("start_ns")
    )
    inner = operators.join(found, on=["rank", "cycle", "index"], how="anti")
    work = inner.filter(~pl.col("name").cast(pl.String).is_in(_PACKING))
    on_device = pl.col("rank").is_in(kernels["rank"].unique().to_list())
    judged = found
    for name, table in (("launch", launches), ("inner", inner), ("work", work)):
        judged = _holds(judged, table, name)
    # A multiplication without any operator inside was simply not recorded in detail.
    executed = pl.when(on_device).then("launch").otherwise(pl.col("work") | ~pl.col("inner"))
    return judged.with_columns(executed.alias("executed")).drop("launch", "inner", "work")


def _holds(found: pl.DataFrame, table: pl.DataFrame, name: str) -> pl.DataFrame:
    """Add column `name`: something of `table` starts inside, on the same thread."""
    starts = table.select(*_THREAD, "start_ns", pl.col("start_ns").alias("_at")).sort("start_ns")
    return (
        found.sort("start_ns")
        .join_asof(starts, on="start_ns", by=_THREAD, strategy="forward", check_sortedness=False)
        .with_columns((pl.col("_at") < pl.col("end_ns")).fill_null(value=False).alias(name))
        .drop("_at")
    )


def _by_operators(operators: pl.DataFrame) -> Recomputed:
    """From `forward_operators`."""
    done = operators.filter("executed")

    def count(kind: str, *, again: bool) -> int:
        return done.filter((pl.col("kind") == kind) & (pl.col("again") == again)).height

    gemms, attentions = count("gemm", again=False), count("attention", again=False)
    gemms_again, attentions_again = count("gemm", again=True), count("attention", again=True)
    first, second = gemms + attentions, gemms_again + attentions_again
    if not operators["recorded"].any():
        return Recomputed(value=None, basis="the operators have no sequence numbers: forward and gradients look alike")
    if not first:
        return Recomputed(value=None, basis="no matrix multiplication of a forward pass that ran in the capture")
    if second > first:
        reason = (
            f"{second} forward operators in backward, {first} outside: the capture is cut, or gradients of gradients"
        )
        return Recomputed(value=None, basis=reason)
    noun = "batched multiplications" if _unfused(operators) else "attentions"
    if not second:
        text = f"operators: none of {gemms} matrix multiplications and {attentions} {noun} of forward runs again in backward"
        return Recomputed(value="none", basis=text, confidence=0.9, share=0.0)
    stopped = operators.filter(pl.col("again") & ~pl.col("executed")).height
    text = (
        f"operators: {gemms_again} of {gemms} matrix multiplications and {attentions_again} of {attentions} {noun} of "
        f"forward run again in backward{f', {stopped} more begun and not computed' if stopped else ''}"
    )
    value = _kind((gemms_again, gemms), (attentions_again, attentions))
    return Recomputed(value=value, basis=text, confidence=0.9, share=second / first, num_begun=stopped)


def _unfused(operators: pl.DataFrame) -> bool:
    """Whether batched multiplications stand for core attention, as no fused one is recorded."""
    return not operators.filter((pl.col("kind") == "attention") & pl.col("name").is_in(_UNFUSED)).is_empty()


def _kind(gemms: tuple[int, int], attentions: tuple[int, int]) -> Recomputation:
    """Of pairs computed again and at first."""
    all_attention = attentions[1] > 0 and attentions[0] >= (1 - _TOLERANCE) * attentions[1]
    if all_attention and not gemms[0]:
        return "selective"
    least = _MOST_OF_GEMMS if all_attention else _MOST_WITHOUT_ATTENTION
    whole = gemms[0] >= least * gemms[1] and (all_attention or not attentions[1])
    return "full" if whole else "partial"


def _by_kernels(kernels: pl.DataFrame) -> Recomputed | None:
    """From the launches of fused attention kernels inside steps; None if they do not show it."""
    name = pl.col("name").cast(pl.String)
    main = kernels.filter(pl.col("step").is_not_null() & (pl.col("kind") == "attention")).filter(
        ~name.str.contains(_KERNEL_BESIDE)
    )
    is_backward = main["name"].cast(pl.String).str.contains(_KERNEL_BACKWARD)
    is_forward = ~is_backward & main["name"].cast(pl.String).str.contains(_KERNEL_FORWARD)
    forward, backward = int(is_forward.sum()), int(is_backward.sum())
    if not forward or not backward:
        return None
    text = f"attention kernels: {forward} forward, {backward} backward launches"
    if abs(forward / backward - 1) <= _TOLERANCE:
        return Recomputed(
            value="none", basis=f"{text}; recomputation of anything but attention is not visible", confidence=0.7
        )
    if abs(forward / backward - 2) <= 2 * _TOLERANCE:
        return Recomputed(value="partial", basis=f"{text}: whether layers run again too is not known", confidence=0.7)
    return None
