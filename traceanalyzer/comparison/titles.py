"""What changed, in words that go after `because`, with the numbers behind them."""

from __future__ import annotations

from dataclasses import dataclass

from traceanalyzer.comparison.record import ChangeKind
from traceanalyzer.comparison.replay.computation import Computed, who_text
from traceanalyzer.comparison.replay.links import Moved
from traceanalyzer.review.words import digits, milliseconds, percent, ranks_text, spaced

MAX_NAME = 70
"""Letters of a kernel's name in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A change without its size."""

    kind: ChangeKind
    title: str
    ranks: tuple[int, ...] = ()
    stages: tuple[int, ...] = ()
    kernel: str | None = None
    shape: str | None = None
    group: str | None = None
    before: float | None = None
    after: float | None = None
    unit: str | None = None


def computed_title(found: Computed, num_ranks: int) -> Description:
    """Computation that takes longer or shorter."""
    who = who_text(found.ranks, found.stages, num_ranks)
    if found.kind == "kernel":
        title = _kernel_title(found) + (f" on {who}" if who else "")
    elif found.kind == "computation":
        title = f"all {'other ' if found.is_rest else ''}computation takes {_by(found.ratio)}"
    else:
        title = f"{who} {'compute' if len(found.stages) > 1 else 'computes'} for {_by(found.ratio)}"
    return Description(
        kind=found.kind,
        title=title,
        ranks=found.ranks if who else (),
        stages=found.stages,
        kernel=found.kernel,
        shape=found.shape,
        before=found.before_ns / len(found.ranks) / 1e6,
        after=found.after_ns / len(found.ranks) / 1e6,
        unit="ms per rank and step",
    )


def _kernel_title(found: Computed) -> str:
    name = shortened(found.kernel or "")
    what = f"{found.shape} ({name})" if found.shape else name
    if not found.before_ns:
        return f"{what} appeared"
    if not found.after_ns:
        return f"{what} is gone"
    often = found.after_number / found.before_number - 1 if found.before_number else 0.0
    if abs(often) > 0.01:
        return f"{what} runs {_signed(often, 'more', 'less')} often"
    return f"{what} takes {_by(found.ratio)}"


def _by(ratio: float | None) -> str:
    return "longer" if ratio is None else _signed(ratio, "longer", "less time")


def _signed(ratio: float, more: str, less: str) -> str:
    return f"{percent(abs(ratio))} {more if ratio > 0 else less}"


def shortened(name: str) -> str:
    """A kernel's name for a sentence."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def link_title(found: Moved) -> Description:
    """Transfers that take longer or shorter."""
    ratio = found.after_ns / found.before_ns - 1 if found.before_ns else None
    what = "messages" if found.operation == "send_recv" else spaced(found.operation)
    if found.kind == "link" and len(found.ranks) == 1:
        title = f"transfers on the links of rank {found.ranks[0]} take {_times(ratio)}"
    elif found.kind == "link":
        title = f"transfers between ranks {' and '.join(map(str, found.ranks))} take {_times(ratio)}"
    else:
        role = f" ({found.role})" if found.role else ""
        of = f" of {ranks_text(list(found.ranks))}" if found.ranks else ""
        title = f"transfers of {what}{role}{of} take {_times(ratio)}"
    return Description(
        kind=found.kind, title=title, ranks=found.ranks, group=found.members,
        before=found.before_ns / 1e6, after=found.after_ns / 1e6, unit="ms per step, summed over ranks",
    )  # fmt: skip


def _times(ratio: float | None) -> str:
    if ratio is None or ratio < 1:
        return _by(ratio)
    return f"{digits(1 + ratio)} times as long"


def delay_title(part: str, rank: int, before_ns: int, after_ns: int) -> Description:
    """Kernels of a rank that start later or sooner than they could."""
    change = milliseconds(abs(after_ns - before_ns) / 1e6)
    word = "later" if after_ns > before_ns else "sooner"
    host = part == "host_ns"
    title = (
        f"the host of rank {rank} launches {change} {word}"
        if host
        else f"kernels of rank {rank} start {change} {word} for no recorded reason"
    )
    return Description(
        kind="host" if host else "late_starts", title=title, ranks=(rank,),
        before=before_ns / 1e6, after=after_ns / 1e6, unit="ms per step",
    )  # fmt: skip
