"""Checks over a whole file that need only a few light columns: times, launches, steps, communication, duplicates."""

from __future__ import annotations

from collections import Counter
from typing import cast

import polars as pl

from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.kineto.accelerators import LAUNCHED, in_common_terms, may_tell_of_devices
from traceanalyzer.traces.kineto.launches import launch_clock, launches, named_calls, without_kernel
from traceanalyzer.traces.kineto.repeated import ROUNDING_NS, launch_of, moved

KERNEL_CATEGORIES = ("kernel", "gpu_memcpy", "gpu_memset")
RUNTIME_CATEGORIES = (
    "cuda_runtime",
    "cuda_driver",
    "hip_runtime",
    "xpu_runtime",
    "xpu_driver",
    "mtia_runtime",
    "privateuse1_runtime",
    "privateuse1_driver",
)
_KNOWN_CATEGORIES = {
    *KERNEL_CATEGORIES,
    *RUNTIME_CATEGORIES,
    *("cpu_op", "user_annotation", "gpu_user_annotation", "python_function", "ac2g", "async_cpu_to_gpu", "fwdbwd"),
    *("cpu_instant_event", "cuda_sync", "overhead", "trace", "cuda_profiler_range", "async_gpu", "glow_runtime"),
    *("collective_comm", "forward_backward", "hpu_op", "mtia_ccp_events", "mtia_insight", "cuda_event", "async"),
    *("enqueue", "dequeue"),  # of torch_npu: calls that go through its task queue
}
_HOST_CATEGORIES = ("cpu_op", "user_annotation", "python_function", *RUNTIME_CATEGORIES)
_HOUR = 3_600
_SECOND_NS = 1_000_000_000
_FEWEST = 3
_DEVICE = ("process", "device", "stream", "correlation", "start_ns", "duration_ns", "category", "in_graph")
_LAUNCHES = ("process", "thread", "start_ns", "correlation")
_OF_DEVICES = [
    *("index", "ph", "category", "name", "process", "thread", "start_ns", "duration_ns"),
    *("device", "stream", "correlation", "flow_id", "args"),
]
_MOST_CHECKED = 16_000_000  # events; beyond, what checks hold in memory would outgrow the reading itself
_FAR = 20
_LATE_NS = 50_000  # what programmatic launches overlap is less; tables cut a kernel that overlaps more
_COMMUNICATION = r"(?i)^(?:nccl|rccl|mscclpp?)"
_IN_GRAPH = r'"graph id"\s*:\s*[1-9]'
_TOO_LONG = r"^(?:nccl:|gloo:|ProfilerStep#|compute:|PP:|moe:).*\d{10}"
_TOO_LARGE = r'"Group size"\s*:\s*"?\d{8}'
_META = '"Collective name"|"In msg nelems"|"Process Group Name"'


class Checks:
    """Gathers light columns frame by frame and judges them at the end."""

    __slots__ = (
        "_alike",
        "_calls",
        "_categories",
        "_comm",
        "_comm_without_metadata",
        "_device",
        "_foreign",
        "_hashes",
        "_host",
        "_impossible",
        "_launches",
        "_named",
        "_processes",
        "_seconds",
        "_spans",
        "_steps",
        "num_complete",
    )

    def __init__(self) -> None:
        self.num_complete = 0
        self._seconds: list[pl.Series] = []
        self._spans: list[tuple[int, int]] = []
        self._processes: Counter[str] = Counter()
        self._hashes: list[pl.DataFrame] = []
        self._alike: list[pl.DataFrame] = []
        self._device: list[pl.DataFrame] = []
        self._foreign: list[pl.DataFrame] = []
        self._launches: list[pl.DataFrame] = []
        self._named: list[pl.DataFrame] = []
        self._steps: list[pl.DataFrame] = []
        self._categories: set[str] = set()
        self._comm = 0
        self._comm_without_metadata: list[pl.Series] = []
        self._impossible = 0
        self._calls: list[pl.DataFrame] = []
        self._host: list[pl.DataFrame] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Take what will be needed of a frame of `ROW_SCHEMA`."""
        complete = frame.filter(pl.col("ph") == "X")
        if self.num_complete <= _MOST_CHECKED:
            self._foreign.append(frame.filter(may_tell_of_devices()).select(_OF_DEVICES))
        if complete.is_empty():
            return
        self.num_complete += complete.height
        self._seconds.append((complete["start_ns"] // _SECOND_NS).clip(-(1 << 31), (1 << 31) - 1).cast(pl.Int32))
        ends = complete["start_ns"] + complete["duration_ns"]
        self._spans.append((cast("int", complete["start_ns"].min()), cast("int", ends.max())))
        host = complete.filter(pl.col("category").is_in(_HOST_CATEGORIES))
        for process, count in host["process"].drop_nulls().cast(pl.String).value_counts().iter_rows():
            self._processes[process] += count
        if self.num_complete <= _MOST_CHECKED:
            self._add_details(complete, host)

    def _add_details(self, complete: pl.DataFrame, host: pl.DataFrame) -> None:
        names = pl.col("category", "name", "process", "thread").to_physical()
        numbers = pl.col("start_ns", "duration_ns", "device", "stream", "correlation", "external_id")
        whole = pl.struct(names, numbers, pl.col("args").hash()).hash().alias("hash")
        self._hashes.append(complete.select("index", whole))
        self._categories.update(complete["category"].drop_nulls().unique().cast(pl.String).to_list())
        thread = pl.col("process", "thread").to_physical()
        self._host.append(host.select(thread, "start_ns", "duration_ns"))
        device = complete.filter(pl.col("category").is_in(KERNEL_CATEGORIES))
        in_graph = pl.col("args").str.contains(_IN_GRAPH).fill_null(value=False).alias("in_graph")
        self._device.append(device.select(*_DEVICE[:-1], in_graph))
        self._alike.append(
            device.drop_nulls(["stream", "correlation"]).select("index", launch_of(), "start_ns", "duration_ns")
        )
        calls = complete.filter(pl.col("category").is_in(RUNTIME_CATEGORIES))
        self._launches.append(calls.select(thread, *_LAUNCHES[2:]).drop_nulls("correlation"))
        named = calls.filter(named_calls())
        self._named.append(named.select("process", "thread", "name", "correlation", "start_ns"))
        name = pl.col("name").cast(pl.String)
        steps = complete.filter(name.str.starts_with("ProfilerStep") & (pl.col("category") != "gpu_user_annotation"))
        self._steps.append(steps.select(name, "process", "start_ns", "duration_ns"))
        comm = complete.filter((pl.col("category") == "kernel") & name.str.contains(_COMMUNICATION))
        self._comm += comm.height
        stated = pl.col("args").str.contains(_META).fill_null(value=False)
        self._comm_without_metadata.append(comm.filter(~stated)["correlation"])
        named = (pl.col("category") == "user_annotation") & name.str.contains(_TOO_LONG)
        sized = (name == "record_param_comms") & pl.col("args").str.contains(_TOO_LARGE).fill_null(value=False)
        self._impossible += complete.filter(named | sized).height
        calls = complete.filter((name == "record_param_comms") & stated)
        self._calls.append(
            calls.select(thread, "start_ns", (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"))
        )

    def main_process(self) -> str | None:
        """The process with most host events."""
        return self._processes.most_common(1)[0][0] if self._processes else None

    def span(self, bounds: tuple[int, int, int] | None) -> tuple[int | None, int | None]:
        """First start and last end of the complete events; of those within `bounds`, to the second."""
        if not self._spans:
            return None, None
        first, last = min(start for start, _ in self._spans), max(end for _, end in self._spans)
        return (max(first, bounds[0]), min(last, bounds[1])) if bounds else (first, last)

    def time_bounds(self) -> tuple[int, int, int] | None:
        """(first credible start, first that is not, number outside) if starts are far from all others, else None.

        Far is more than an hour and more than twenty times the spread of the middle half. Bounds are whole seconds.
        """
        if self.num_complete < _FEWEST:
            return None
        seconds = pl.concat(self._seconds)
        low, middle, high = (cast("int", seconds.quantile(q, "nearest")) for q in (0.25, 0.5, 0.75))
        reach = int(max(_HOUR, _FAR * (high - low)))
        outside = int(((seconds < middle - reach) | (seconds > middle + reach)).sum())
        first, last = int(middle) - reach, int(middle) + reach + 1
        return (first * _SECOND_NS, last * _SECOND_NS, outside) if outside else None

    def repeated(self, bounds: tuple[int, int, int] | None) -> tuple[int, ...]:
        """Positions of complete events that occurred before, alike in everything; of those within `bounds`.

        Of device work also those of one launch that run at once on one stream, which no two kernels do: a writer
        that rounds differently moved them. Not known, and empty, of a file that is too large to be checked.
        """
        if not self._hashes or self.num_complete > _MOST_CHECKED:
            return ()
        found = pl.concat(self._hashes)
        self._hashes.clear()
        again = ~found["hash"].is_first_distinct()
        if bounds is not None and again.any():
            seconds = pl.concat(self._seconds).cast(pl.Int64)
            again &= (seconds >= bounds[0] // _SECOND_NS) & (seconds < bounds[1] // _SECOND_NS)
        shifted = moved(pl.concat(self._alike)) if self._alike else []
        self._alike.clear()
        return tuple(sorted({*found["index"].filter(again).to_list(), *shifted}))

    def launched(self) -> pl.DataFrame:
        """Launches of kernels; no rows of a file that is too large to be checked."""
        known = self._named and self.num_complete <= _MOST_CHECKED
        return launches(pl.concat(self._named)) if known else pl.DataFrame()

    def device_work(self) -> pl.DataFrame:
        """Kernels and copies with their process, device, correlation and times; to be asked for before `judge`."""
        known = self._device and self.num_complete <= _MOST_CHECKED
        return pl.concat(self._device) if known else pl.DataFrame()

    def judge(self, log: DefectLog, accelerator: str | None = None) -> None:
        """Report what the whole file shows; each gathered column is forgotten once it was judged.

        Args:
            log: takes the defects.
            accelerator: the device that the file names, on which the job may have computed.
        """
        if self.num_complete > _MOST_CHECKED:
            log.add("check.skipped", events=0, detail=f"{self.num_complete:,} events")
            return
        self._seconds.clear()
        unknown = sorted(self._categories - _KNOWN_CATEGORIES)
        if unknown:
            log.add("event.unknown_category", events=0, detail=", ".join(unknown[:5]))
        if self._impossible:
            log.add("event.number_impossible", events=self._impossible)
        unstated = self._num_without_metadata()
        self._add_foreign()
        device = pl.concat(self._device) if self._device else pl.DataFrame()
        self._device.clear()
        launched = self.launched()
        if device.height:
            self._judge_clock(device, log)
            self._judge_device(device, log)
            self._judge_launches(launched, device, log)
        elif launched.height:
            log.add("device.no_kernels", events=launched.height)
        elif accelerator:
            log.add("device.only_named", events=0, detail=accelerator)
        else:
            log.add("device.none", events=0)
        del device
        if unstated:
            log.add("comm.no_metadata", events=unstated, detail=f"{unstated:,} of {self._comm:,}")
        crossing = _num_crossing(pl.concat(self._host)) if self._host else 0
        if crossing:
            log.add("event.crossing", events=crossing)
        self._judge_steps(log)

    def _add_foreign(self) -> None:
        """Take what other accelerators call in their own terms as device work and launches."""
        place = [pl.lit(0, pl.Int32).alias(name) for name in ("rank", "cycle")]
        found = pl.concat(self._foreign).with_columns(place) if self._foreign else pl.DataFrame()
        self._foreign.clear()
        if found.is_empty():
            return
        read = in_common_terms(found).filter(pl.col("ph") == "X")
        device = read.filter(pl.col("category").cast(pl.String).is_in(KERNEL_CATEGORIES))
        if device.height:
            self._device.append(device.select(*_DEVICE[:-1], pl.lit(value=False).alias(_DEVICE[-1])))
        calls = read.filter(pl.col("category") == LAUNCHED)
        thread = pl.col("process", "thread").to_physical()
        self._launches.append(calls.select(thread, *_LAUNCHES[2:]))

    def _judge_clock(self, device: pl.DataFrame, log: DefectLog) -> None:
        if not self._launches:
            return
        calls = pl.concat(self._launches).select("correlation", pl.col("start_ns").alias("launch_start_ns"))
        once = calls.filter(~pl.col("correlation").is_duplicated())  # numbers of several processes say nothing here
        end = (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns")
        clock = launch_clock(device.with_columns(end).join(once, on="correlation"))
        if clock is not None:
            longest = f"up to {clock.ahead_ns / 1e3:,.3g} µs early, of {clock.num_launched:,} launched ones"
            log.add(clock.defect, events=clock.num_early, detail=longest)

    def _num_without_metadata(self) -> int:
        """Communication kernels that neither their own arguments tell of nor those of the call that launched them."""
        if not self._comm_without_metadata:
            return 0
        unstated = pl.concat(self._comm_without_metadata)
        launches, calls = pl.concat(self._launches), pl.concat(self._calls)
        self._calls.clear()
        if unstated.is_empty() or calls.is_empty():
            return unstated.len()
        launched = launches.join(unstated.drop_nulls().to_frame().unique(), on="correlation", how="semi")
        inside = launched.sort("start_ns").join_asof(
            calls.sort("start_ns"),
            on="start_ns",
            by=["process", "thread"],
            strategy="backward",
            check_sortedness=False,
        )
        stated = inside.filter(pl.col("start_ns") <= pl.col("end_ns"))["correlation"].unique()
        return int((~unstated.is_in(stated.implode())).fill_null(value=True).sum())

    def _judge_device(self, device: pl.DataFrame, log: DefectLog) -> None:
        launches = pl.concat(self._launches)["correlation"] if self._launches else pl.Series(dtype=pl.UInt64)
        self._launches.clear()
        launched = launches.alias("correlation").unique().to_frame()
        stated = device.select("correlation").drop_nulls()
        orphans = stated.join(launched, on="correlation", how="anti").height if launches.len() else 0
        if orphans:
            log.add("device.no_launch", events=orphans, detail=f"{orphans:,} of {device.height:,}")
        self._judge_streams(device, log)

    def _judge_launches(self, launched: pl.DataFrame, device: pl.DataFrame, log: DefectLog) -> None:
        if not launched.height:
            return
        missing = without_kernel(launched, device)
        if missing.height:
            begin = min(start for start, _ in self._spans)
            first, last = (
                (cast("int", at) - begin) / 1e6 for at in (missing["start_ns"].min(), missing["start_ns"].max())
            )
            detail = f"of {launched.height:,} launches, those between {first:,.3f} and {last:,.3f} ms of the capture"
            log.add("device.kernels_missing", events=missing.height, detail=detail)

    def _judge_streams(self, device: pl.DataFrame, log: DefectLog) -> None:
        keys = ["device", "stream"]
        ordered = device.filter(pl.col("stream").is_not_null() & ~pl.col("in_graph"))
        starts = ordered.select(*keys, "start_ns").unique().sort(*keys, "start_ns")
        apart = (pl.col("start_ns") - pl.col("start_ns").shift(1).over(keys)).fill_null(_LATE_NS) > ROUNDING_NS
        starts = starts.filter(apart)  # what begins at once is one kernel twice
        following = starts.with_columns(pl.col("start_ns").shift(-1).over(keys).alias("next_ns"))
        over = pl.col("start_ns") + pl.col("duration_ns") - pl.col("next_ns")
        late = (
            ordered.join(following, on=[*keys, "start_ns"], nulls_equal=True)
            .filter(over > _LATE_NS)
            .select(over.alias("over_ns"))
        )
        if late.height:
            longest = cast("int", late["over_ns"].max()) / 1e6
            log.add("device.late_end", events=late.height, detail=f"up to {longest:,.4g} ms beyond it")

    def _judge_steps(self, log: DefectLog) -> None:
        steps = pl.concat(self._steps) if self._steps else pl.DataFrame()
        if not steps.height:
            log.add("step.none", events=0)
            return
        steps = steps.unique()  # the same range again was left out
        ordered = steps.sort("process", "start_ns").with_columns(
            (pl.col("start_ns") + pl.col("duration_ns")).shift(1).over("process").alias("before_ns")
        )
        bad = ordered.filter((pl.col("start_ns") < pl.col("before_ns")) | (pl.col("duration_ns") == 0)).height
        bad = bad or steps.height - steps.select("process", "name").n_unique()
        if bad:
            log.add("step.overlapping", events=bad)


def _num_crossing(host: pl.DataFrame) -> int:
    """Ranges of one thread that begin inside the one before and end after it, by more than rounding."""
    end = pl.col("start_ns") + pl.col("duration_ns")
    order = host.sort("process", "thread", "start_ns", "duration_ns", descending=[False, False, False, True])
    same_thread = (pl.col("process").shift(-1).eq_missing(pl.col("process"))) & (
        pl.col("thread").shift(-1).eq_missing(pl.col("thread"))
    )
    crossing = same_thread & (pl.col("start_ns").shift(-1) < end - ROUNDING_NS) & (end.shift(-1) > end + ROUNDING_NS)
    return int(order.select(crossing.sum()).item() or 0)
