"""The accounting law on device traces: every nanosecond of a rank's step window has exactly one owner.

In order of precedence:

* `compute`: a computing kernel runs (`fused` ones that also communicate are computation);
* `transfer`, `wait`: an exposed communication kernel, split at its wait; `communication` where wait and transfer cannot
  be distinguished. Of several at once the owner is the one that released the next computation (it ends at most 20 µs
  before that starts), else pp, ep, cp, tp, dp, world in this order, and the time counts as ambiguous;
* `copy`: a copy to, from or on the device;
* an idle device before kernel K, whose launching call ended at l: `host` until l, for until then nothing could run;
  what is left is `launch_gap` up to 10 µs and `queued` beyond (K was launched and did not start, though nothing that was recorded ran: cause `not recorded`);
  `unknown` while the launch may still have been under way (the device's clock drifts), where K has no launch record that its start can be compared with, and from the first launch on whose kernel was not recorded and that came between
  the launches of K and of the kernel before it: what ran there is missing.

The second axis is the phase of the step (`measurements.step_phases`).
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.ledger.intervals import clip, sweep, union
from traceanalyzer.measurements.ledger.main_thread import by_owner, check_sums
from traceanalyzer.schema import MISSING_KERNELS, ROLE
from traceanalyzer.tables.rank_groups import in_rank_groups, results_of_groups

MAX_LAUNCH_GAP_NS = 10_000
MAX_RELEASE_NS = 20_000
COMPUTE_KINDS = ("gemm", "attention", "other", "fused")
_KEYS = ["rank", "step"]
_KERNEL = ["rank", "cycle", "index"]
_PARTS = ("transfer", "wait", "communication")
_ROLES = (*ROLE.categories, "unnamed")


@in_rank_groups
def device_accounting(
    windows: pl.DataFrame,
    kernels: pl.DataFrame,
    communications: pl.DataFrame,
    phases: pl.DataFrame,
    missing: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Time by rank, step, owner, cause and phase (`ACCOUNTING`) from `STEPS`, `KERNELS`, `COMMUNICATIONS`.

    `phases` is what every window is doing, as `step_phases` gives it for (at least) these windows; `missing` are launches
    whose kernel was not recorded (`MISSING_KERNELS`).
    """
    table = by_owner(device_segments(windows, kernels, communications, missing), phases)
    check_sums(table, windows)
    return table


def device_segments(
    windows: pl.DataFrame, kernels: pl.DataFrame, communications: pl.DataFrame, missing: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Who owns which time: `rank`, `step`, `label` (`owner/cause/...`), `start_ns`, `end_ns`; they tile every window.

    Takes what `device_accounting` takes.
    """
    bounds = windows.select(*_KEYS, "start_ns", "end_ns").filter(pl.col("end_ns") > pl.col("start_ns"))
    labelled = pl.concat([_computation(kernels), _communication(kernels, communications), _copies(kernels)])
    merged = union(clip(labelled, bounds, ["rank"]), [*_KEYS, "label"])
    segments = sweep(merged, bounds, _KEYS, _labels())
    busy = segments.filter(pl.col("label").is_not_null())
    lost = pl.DataFrame(schema=MISSING_KERNELS) if missing is None else missing
    idle = _idle(segments.filter(pl.col("label").is_null()), kernels, lost)
    return pl.concat([busy, idle]).filter(pl.col("end_ns") > pl.col("start_ns"))


def _labels() -> list[str]:
    """Every label in order of precedence: released communication, then by role."""
    released = [f"{part}/{role}/released" for role in _ROLES for part in _PARTS]
    others = [f"{part}/{role}" for role in _ROLES for part in _PARTS]
    return ["compute/kernel", "compute/fused", *released, *others, "copy/copy"]


def _computation(kernels: pl.DataFrame) -> pl.DataFrame:
    cause = pl.when(pl.col("kind") == "fused").then(pl.lit("compute/fused")).otherwise(pl.lit("compute/kernel"))
    return kernels.filter(pl.col("kind").is_in(COMPUTE_KINDS)).select(
        "rank", "start_ns", "end_ns", cause.alias("label")
    )


def _copies(kernels: pl.DataFrame) -> pl.DataFrame:
    return kernels.filter(pl.col("kind") == "copy").select(
        "rank", "start_ns", "end_ns", pl.lit("copy/copy").alias("label")
    )


def _communication(kernels: pl.DataFrame, communications: pl.DataFrame) -> pl.DataFrame:
    """Communication kernels cut at the end of their wait, labelled with part, role and whether they released."""
    rows = _with_unlisted(kernels, communications).with_columns(
        pl.coalesce(pl.col("role").cast(pl.String), pl.lit("unnamed")).alias("role"),
        (pl.col("start_ns") + pl.col("wait_ns").clip(lower_bound=0)).alias("wait_end_ns"),
    )
    name = pl.concat_str(
        [pl.lit("/"), pl.col("role"), pl.when("released").then(pl.lit("/released")).otherwise(pl.lit(""))]
    )
    split = rows.join(_releasing(rows, kernels), on=_KERNEL, how="left").with_columns(
        pl.col("released").fill_null(value=False)
    )
    known = split.filter(pl.col("wait_ns").is_not_null())

    def part(frame: pl.DataFrame, owner: str, start: str, end: str) -> pl.DataFrame:
        label = pl.concat_str([pl.lit(owner), name]).alias("label")
        return frame.select("rank", pl.col(start).alias("start_ns"), pl.col(end).alias("end_ns"), label)

    return pl.concat(
        [
            part(known, "wait", "start_ns", "wait_end_ns"),
            part(known, "transfer", "wait_end_ns", "end_ns"),
            part(split.filter(pl.col("wait_ns").is_null()), "communication", "start_ns", "end_ns"),
        ]
    )


def _with_unlisted(kernels: pl.DataFrame, communications: pl.DataFrame) -> pl.DataFrame:
    """Every communication kernel: those with a row in `COMMUNICATIONS`, barriers (all wait), and those without row."""
    columns = [*_KERNEL, "role", "start_ns", "end_ns", "wait_ns"]
    listed = communications.select(columns)
    left = kernels.filter(pl.col("kind").is_in(["communication", "barrier"])).join(
        communications, on=_KERNEL, how="anti"
    )
    duration = pl.col("end_ns") - pl.col("start_ns")
    unlisted = left.select(
        *_KERNEL,
        pl.lit(None, ROLE).alias("role"),
        "start_ns",
        "end_ns",
        pl.when(pl.col("kind") == "barrier").then(duration).alias("wait_ns"),
    )
    return pl.concat([listed, unlisted])


def _releasing(communication: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """The communication kernel that released each computing one: `rank`, `cycle`, `index`, `released`.

    It is the last to end within 20 µs before the start.
    """
    computing = kernels.filter(pl.col("kind").is_in(COMPUTE_KINDS)).select("rank", pl.col("start_ns").alias("next_ns"))
    ends = communication.select(*_KERNEL, "end_ns").sort("end_ns")
    return (
        computing.sort("next_ns")
        .join_asof(
            ends,
            left_on="next_ns",
            right_on="end_ns",
            by="rank",
            strategy="backward",
            tolerance=MAX_RELEASE_NS,
            check_sortedness=False,
        )
        .filter(pl.col("index").is_not_null())
        .select(*_KERNEL, pl.lit(value=True).alias("released"))
        .unique()
    )


def _idle(segments: pl.DataFrame, kernels: pl.DataFrame, missing: pl.DataFrame) -> pl.DataFrame:
    """Idle segments cut into host, launch gap, queued and unknown by the launch of the kernel that ends them.

    The host's part comes first: until the launching call returned, nothing could run. It ends at a launch whose kernel is
    missing, and all after that is unknown.
    """
    ends = segments.join(
        _first_launches(kernels, missing), left_on=["rank", "end_ns"], right_on=["rank", "next_ns"], how="left"
    )
    known = pl.col("launch_end_ns").is_not_null()
    launched = pl.max_horizontal("start_ns", pl.min_horizontal("end_ns", "launch_end_ns"))
    until = pl.max_horizontal("start_ns", pl.min_horizontal("end_ns", "lost_ns"))
    ends = ends.with_columns(
        pl.when(pl.col("lost_ns").is_not_null())
        .then(until)
        .when(known)
        .then(launched)
        .otherwise("end_ns")
        .alias("cut_ns")
    ).with_columns(pl.max_horizontal("cut_ns", pl.min_horizontal("end_ns", "launched_by_ns")).alias("sure_ns"))
    length = pl.col("end_ns") - pl.col("sure_ns")
    rest = (
        pl.when(pl.col("lost_ns").is_not_null())
        .then(pl.lit("unknown/kernels missing"))
        .when(length <= MAX_LAUNCH_GAP_NS)
        .then(pl.lit("launch_gap/after launch"))
        .otherwise(pl.lit("queued/not recorded"))
    )
    first = pl.when(known).then(pl.lit("host/before launch")).otherwise(pl.lit("unknown/no usable launch record"))

    def part(label: pl.Expr, start: str, end: str) -> pl.DataFrame:
        return ends.select(*_KEYS, label.alias("label"), pl.col(start).alias("start_ns"), pl.col(end).alias("end_ns"))

    unsure = pl.lit("unknown/launch not sure")
    return pl.concat(
        [part(first, "start_ns", "cut_ns"), part(unsure, "cut_ns", "sure_ns"), part(rest, "sure_ns", "end_ns")]
    )


def _first_launches(kernels: pl.DataFrame, missing: pl.DataFrame) -> pl.DataFrame:
    """Moments at which kernels start: `rank`, `next_ns`, `launch_end_ns`, `launched_by_ns`, `lost_ns`.

    `launch_end_ns` is the earliest end of their launching calls, `launched_by_ns` the latest that this may have been, `lost_ns`
    the end of a launch between theirs and the one of the kernel before them whose kernel is missing.
    """
    latest = pl.col("launch_end_ns") + pl.col("launch_unsure_ns").fill_null(0)
    first = (
        kernels.select("rank", pl.col("start_ns").alias("next_ns"), "launch_end_ns", latest.alias("launched_by_ns"))
        .sort("rank", "next_ns", "launch_end_ns", nulls_last=True)
        .unique(["rank", "next_ns"], keep="first", maintain_order=True)
        .with_columns(pl.col("launch_end_ns").shift(1).over("rank").fill_null(-(1 << 62)).alias("_before_ns"))
    )
    lost = missing.select("rank", pl.col("launch_end_ns").alias("lost_ns")).sort("lost_ns")
    return (
        first.sort("_before_ns")
        .join_asof(
            lost, left_on="_before_ns", right_on="lost_ns", by="rank", strategy="forward", check_sortedness=False
        )
        .with_columns(pl.when(pl.col("lost_ns") < pl.col("launch_end_ns")).then("lost_ns"))
        .drop("_before_ns")
    )


def ambiguous_ns(windows: pl.DataFrame, kernels: pl.DataFrame, communications: pl.DataFrame) -> int:
    """Exposed time in which communication of several roles ran at once and none of it released a computation."""
    return sum(results_of_groups(_ambiguous_ns, windows, kernels, communications))


def _ambiguous_ns(windows: pl.DataFrame, kernels: pl.DataFrame, communications: pl.DataFrame) -> int:
    bounds = windows.select(*_KEYS, "start_ns", "end_ns")
    labelled = _communication(kernels, communications).filter(~pl.col("label").str.ends_with("/released"))
    by_role = labelled.with_columns(pl.col("label").str.split("/").list.get(1).alias("label"))
    covered = [
        _computation(kernels),
        _communication(kernels, communications).filter(pl.col("label").str.ends_with("/released")),
    ]
    first = union(clip(pl.concat(covered), bounds, ["rank"]), _KEYS).with_columns(pl.lit("taken").alias("label"))

    def exposed(frame: pl.DataFrame) -> int:
        merged = union(clip(frame, bounds, ["rank"]), _KEYS).with_columns(pl.lit("open").alias("label"))
        segments = sweep(pl.concat([first, merged]), bounds, _KEYS, ["taken", "open"])
        return int(
            segments.filter(pl.col("label") == "open").select(pl.col("end_ns") - pl.col("start_ns")).sum().item()
        )

    roles = by_role["label"].unique().to_list()
    return sum(exposed(by_role.filter(pl.col("label") == role)) for role in roles) - exposed(by_role)
