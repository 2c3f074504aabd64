"""What commands that read traces share: rank maps, progress, the summary of what was read."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.cli.screen import say

if TYPE_CHECKING:
    import polars as pl

    from traceanalyzer.review import Defect
    from traceanalyzer.traces import Counts, Summary
    from traceanalyzer.traces.input.discovery import Where
    from traceanalyzer.traces.nccl.records import Records

_SHOWN = 8


def paths_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add PATH...; the command takes `paths` and hands them to `one_place`."""
    return click.argument("paths", nargs=-1, required=True, metavar="PATH...")(command)


def one_place(paths: Sequence[str]) -> Where:
    """One path as it is, several as one place: files of one run, as a shell writes out a pattern."""
    from traceanalyzer.traces.input.discovery import Paths

    return paths[0] if len(paths) == 1 else Paths(tuple(paths))


def rank_map_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--rank-map`; the command takes `rank_map` and hands it to `load_rank_map`."""
    option = click.option(
        "--rank-map",
        metavar="FILE|JSON",
        help="Ranks by file name or pattern: a JSON object, or a file with one.",
    )
    return option(command)


def columns_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--column-map`, also called `--columns`; the command takes `columns` and hands it to `load_columns`."""
    return _column_map("--column-map", "--columns")(command)


def column_map_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same where `--columns` chooses columns."""
    return _column_map("--column-map")(command)


def _column_map(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        *names,
        "columns",
        type=click.Path(path_type=Path),
        help="Op table: JSON object of our column names and the file's.",
    )


kernel_rules_option = click.option(
    "--kernel-rules",
    metavar="FILE",
    help="CSV of pattern,kind,operation: what kernels do by their names, tried before the rules of the package.",
)


def choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--ranks` and `--steps`; the command hands what they give to `chosen_numbers`."""
    for name, noun in (("--steps", "steps"), ("--ranks", "ranks")):
        command = click.option(name, metavar="LIST", help=f"Look at these {noun} alone, for example 0,4-7.")(command)
    return command


def not_on_a_cluster(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add a hidden `--cluster` that says what runs on one."""
    option = click.option("--cluster", hidden=True, expose_value=False, callback=_refuse_cluster)
    return option(command)


def _refuse_cluster(context: click.Context, _option: click.Parameter, address: str | None) -> None:
    if address is None:
        return
    from traceanalyzer.errors import UsageError

    raise UsageError(
        f"--cluster {address}: {context.info_name} runs on one machine; reading the traces is what a cluster shares",
        f"traceanalyzer ingest PATH --out CAPTURE --cluster {address}, then traceanalyzer {context.info_name} CAPTURE",
    )


class Meter:
    """Progress on standard error for what takes longer than a second: bytes, rate, time left."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._start = time.monotonic()
        self._reported = self._start

    def __call__(self, done: int, total: int) -> None:
        """Tell that `done` of `total` bytes were read."""
        now = time.monotonic()
        if now - self._reported < 1 or done == 0:
            return
        self._reported = now
        rate = done / (now - self._start)
        left = max(0, total - done) / rate
        digits = 0 if total >= 10e6 else 1
        read = f"{done / 1e6:,.{digits}f} of {total / 1e6:,.{digits}f} MB"
        self._say(f"{self._verb} {read}, {rate / 1e6:.1f} MB/s, {left:.0f} s left")

    def next(self, what: str) -> None:
        """Say what is done now, if what came before took longer than a second."""
        if self._reported > self._start:
            self._say(what)

    def done(self) -> None:
        """Clear the line of a terminal."""
        if self._reported > self._start and sys.stderr.isatty():
            say(f"{'':<78}", err=True, end="\r")

    def _say(self, text: str) -> None:
        end = "\r" if sys.stderr.isatty() else "\n"
        say(f"{text:<78}", err=True, end=end)


def summary(traces: Summary) -> list[str]:
    """Ranks, counts and defects as lines of text."""
    lines = [_ranks_line(traces)]
    lines += _counts_lines(traces.counts)
    defects = grouped(traces)
    lines += [_defect_line(row) for row in defects]
    if not defects:
        lines.append("no defects")
    return lines


def kernel_lines(times: pl.DataFrame, unmatched: pl.DataFrame) -> list[str]:
    """Kernels that no rule of the taxonomy knows, by time, from `KERNEL_TIMES`; nothing where there are no kernels."""
    total, unknown = int(times["duration_ns"].sum()), int(unmatched["duration_ns"].sum())
    if times.is_empty():
        return []
    share = f"{unknown / total:.2%}" if total else "none"
    known = f"kernels {int(times['num_kernels'].sum()):,} in {total / 1e6:,.1f} ms; "
    if unmatched.is_empty():
        return [f"{known}every name is known"]
    lines = [f"{known}{unmatched.height} names match no rule; they take {share} of it and count as computation"]
    for name, count, duration in unmatched.head(_SHOWN).iter_rows():
        lines.append(f"  {duration / 1e6:>10,.3f} ms  {count:>7,} ×  {str(name)[:90]}")
    return lines


def record_lines(records: Records) -> list[str]:
    """What communication libraries recorded, and what is amiss in it by itself; nothing without records."""
    from traceanalyzer.gaps.communication.desync import agreement, desyncs
    from traceanalyzer.measurements.communication.recorded import unfinished_calls
    from traceanalyzer.review.words import counted

    lines: list[str] = []
    dumps = records.dumps
    if not dumps.is_empty():
        open_calls = unfinished_calls(records.flight).height
        lines.append(
            f"flight recorder: {counted(records.flight.height, 'record')} of {counted(dumps['rank'].n_unique(), 'rank')}; "
            f"{counted(open_calls, 'call')} not known to have ended"
        )
        lines += [] if desyncs(records) else [agreement(records)]
    measured = records.inspector
    if not measured.is_empty():
        lost = f", {records.num_lost:,} damaged" if records.num_lost else ""
        lines.append(
            f"NCCL Inspector: {measured.height:,} records of {measured['job_rank'].n_unique()} ranks in "
            f"{measured['communicator'].n_unique()} communicators{lost}"
        )
    return lines


def apart_lines(records: Records) -> list[str]:
    """Who did not call what, by flight-recorder dumps, the call that explains the others first."""
    from traceanalyzer.gaps.communication.desync import desyncs

    return [apart.said for apart in desyncs(records)[:_SHOWN]]


def _ranks_line(traces: Summary) -> str:
    ranks = traces.ranks
    present = sorted(set(ranks["rank"].to_list()))
    world = ranks["world_size"].max()
    shown = ", ".join(map(str, present[:_SHOWN])) + (", ..." if len(present) > _SHOWN else "")
    cycles = ranks.group_by("rank").len()["len"].max()
    more = f", {cycles} cycles" if isinstance(cycles, int) and cycles > 1 else ""
    return f"{len(present)} of {world or 'an unknown number of'} ranks ({shown}){more}"


def _counts_lines(counts: Counts) -> list[str]:
    return [
        f"events  {counts.events_seen:,} seen = {counts.events_kept:,} kept{_reasons(counts.events_dropped)}",
        f"bytes   {counts.bytes_seen:,} seen = {counts.bytes_kept:,} used{_reasons(counts.bytes_dropped)}",
    ]


def _reasons(dropped: Mapping[str, int]) -> str:
    return "".join(f" + {count:,} {reason.replace('_', ' ')}" for reason, count in sorted(dropped.items()))


def grouped(traces: Summary) -> list[dict[str, Any]]:
    """Defects by code over all files, worst first: severity, code, number of files and events, one message."""
    import polars as pl

    return (
        traces.defects.group_by("severity", "code", maintain_order=True)
        .agg(
            pl.col("file").n_unique().alias("num_files"),
            pl.col("events_affected").sum(),
            pl.col("file").first(),
            pl.col("message").first(),
            pl.col("hint").first(),
        )
        .to_dicts()
    )


def _defect_line(row: Mapping[str, Any]) -> str:
    where = Path(str(row["file"])).name if row["num_files"] == 1 else f"{row['num_files']} files"
    events = f", {row['events_affected']:,} events" if row["events_affected"] else ""
    return f"{row['severity']:<6} {row['code']:<26} {where}{events}: {row['message']}"


def refuse_loss(path: Where, defects: pl.DataFrame) -> None:
    """What `--strict` asks of every command: raise `GateError` if a row of `DEFECTS` says that data was lost."""
    from traceanalyzer.review import Defect

    refuse_lost(path, [Defect(**row) for row in defects.iter_rows(named=True)])


def refuse_lost(path: Where, defects: Iterable[Defect]) -> None:
    """The same of the defects in a review."""
    from traceanalyzer.errors import GateError

    lost = dict.fromkeys(defect.code for defect in defects if defect.is_loss)
    if lost:
        raise GateError(
            f"{path}: data was lost: {', '.join(lost)}", "leave --strict out to accept the loss that is stated above"
        )


def announce(lines: list[str], echo: Callable[[str], object]) -> None:
    """Print lines without control characters: names come from traces."""
    for line in lines:
        echo("".join(c if c.isprintable() else "?" for c in line))
