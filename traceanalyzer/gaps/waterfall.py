"""Where the FLOP/s went: from the devices' peak to the measured MFU, in milliseconds and MFU points, exactly.

One step is taken, the one of median duration. Its time is the longest rank's window; per rank on average it is

    FLOPs at peak + slow kernels + recompute + every other owner of the accounting + stagger,

where *slow kernels* is computation beyond what the FLOPs would take at peak, *recompute* what recomputed FLOPs take at the
rate of the computation, and *stagger* the longest window less the mean one. `mfu_points = 100 · ms ÷ step`; the losses and
the measured MFU sum to 100.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.gaps.review import Mfu, WaterfallStep
from traceanalyzer.measurements.mfu import median_step

_NAMES = {
    "transfer": "exposed transfer",
    "wait": "waiting for other ranks",
    "communication": "exposed communication",
    "copy": "copies",
    "queued": "queued on the device",
    "launch_gap": "launch gaps",
    "host": "host",
    "unknown": "unknown",
}


def waterfall(mfu: Mfu, account: pl.DataFrame, windows: pl.DataFrame) -> list[WaterfallStep]:
    """Steps from peak to measured; empty where MFU is withheld. `account` is `ACCOUNTING`, `windows` is `STEPS`."""
    if mfu.mfu is None or mfu.flops_per_step is None or mfu.peak_flops_per_device is None or not mfu.num_devices:
        return []
    step, step_ns = median_step(windows)
    step_ms = step_ns / 1e6
    owners = _mean_ms(account.filter(pl.col("step") == step), mfu.num_devices)
    rate = mfu.peak_flops_per_device * mfu.num_devices / 1e3
    ideal_ms = mfu.flops_per_step / rate
    compute_ms = owners.pop("compute", 0.0)
    recomputed = (mfu.hardware_flops_per_step or mfu.flops_per_step) - mfu.flops_per_step
    recompute_ms = compute_ms * recomputed / (mfu.flops_per_step + recomputed)
    losses = {
        "slow kernels": compute_ms - recompute_ms - ideal_ms,
        "recompute": recompute_ms,
        **{name: owners.get(owner, 0.0) for owner, name in _NAMES.items()},
        "stagger of the ranks": step_ms - compute_ms - sum(owners.values()),
    }
    rows = [("peak", step_ms), *[(n, ms) for n, ms in losses.items() if abs(ms) > 1e-9], ("measured MFU", ideal_ms)]
    return [WaterfallStep(name=name, ms=ms, mfu_points=100 * ms / step_ms) for name, ms in rows]


def _mean_ms(account: pl.DataFrame, num_ranks: int) -> dict[str, float]:
    totals = account.group_by(pl.col("owner").cast(pl.String)).agg(pl.col("duration_ns").sum())
    return {owner: ns / 1e6 / num_ranks for owner, ns in totals.iter_rows()}
