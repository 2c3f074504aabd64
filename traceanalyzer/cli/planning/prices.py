"""The price of the whole job as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from traceanalyzer.options.job_prices import PricedSchedule
from traceanalyzer.theory.planning.runs.published import mfu

_GIB = 2**30
_HEAD = ("on the whole job", "step", "MFU", "tokens/s", "memory", "TP", "EP", "CP", "PP", "DP")


def job_text(priced: Sequence[PricedSchedule]) -> str:
    """As a table; exchanges are exposed ones, as shares of the step."""
    job = priced[0].job
    rows: list[Sequence[str]] = [_HEAD]
    notes = [
        (
            f"{job.num_devices} devices of {job.cluster.name}, {job.batch_size} x {job.sequence_length} tokens a step; "
            f"TP to DP: exposed exchanges, share of the step; a device holds {job.capacity_bytes / _GIB:.3g} GiB"
        )
    ]
    notes.append(
        "a price by shape of this layout's multiplies and exchanges; the table above takes one device per stage at --efficiency of its peak"
    )
    for each in priced:
        if each.parts_ns is None:
            notes.append(f"! {each.title}: {each.reason}")
            continue
        shares = [f"{each.parts_ns[name] / each.step_ns:.1%}" for name in ("tp", "ep", "cp", "pp", "dp")]
        over = "" if each.memory_bytes <= job.capacity_bytes else " (too much)"
        rows.append(
            (
                each.title,
                f"{each.step_ns / 1e9:.4g} s",
                f"{mfu(job, each.step_ns):.1%}",
                f"{job.tokens_per_step / each.step_ns * 1e9:.0f}",
                f"{each.memory_bytes / _GIB:.3g} GiB{over}",
                *shares,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*notes, *lines])
