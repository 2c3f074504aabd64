"""What can be wrong with the data, under stable codes, and what is done about each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of defect: how bad it is, what reading does about it, what it touches, what the user can do."""

    severity: str
    action: str
    affects: tuple[str, ...]
    meaning: str
    hint: str = ""


_ALL = ("bubble", "all_to_all", "mfu", "step")
_WAIT = ("bubble", "all_to_all")
_AGAIN = "capture again, or copy the file again from its source"

CODES: dict[str, Code] = {
    "json.truncated": Code("loss", "skipped", _ALL, "the file ends inside the events or before its closing", _AGAIN),
    "json.damaged_events": Code(
        "loss", "skipped", _ALL, "events that are not valid JSON and could not be repaired", _AGAIN
    ),
    "json.repaired_text": Code(
        "repair", "repaired", (), "quotes, backslashes or control characters inside strings were not escaped"
    ),
    "json.repaired_number": Code(
        "repair", "repaired", (), "invalid JSON numbers (NaN, inf, N/A, 007, an empty value) became null or a number"
    ),
    "json.missing_comma": Code("repair", "repaired", (), "the comma between two events is missing"),
    "json.invalid_utf8": Code("repair", "repaired", (), "bytes that are not UTF-8 became U+FFFD"),
    "json.other_encoding": Code("info", "kept", (), "the file is UTF-16 and was converted"),
    "json.garbage": Code("loss", "skipped", (), "bytes between events that are not JSON", _AGAIN),
    "json.trailing_bytes": Code("repair", "skipped", (), "something follows the end of the document"),
    "json.second_document": Code(
        "loss", "skipped", _ALL, "a second document follows in the same file; only the first is read", "split the file"
    ),
    "json.repeated_events_key": Code("repair", "kept", (), "`traceEvents` occurs more than once; all arrays are read"),
    "json.damaged_metadata": Code(
        "repair", "repaired", (), "the text around the events is not valid JSON; the keys that could be found were used"
    ),
    "codec.truncated": Code("loss", "skipped", _ALL, "the compressed stream ends early", _AGAIN),
    "codec.corrupt": Code(
        "loss", "skipped", _ALL, "the compressed stream is damaged; nothing behind the damage can be read", _AGAIN
    ),
    "codec.checksum": Code("loss", "kept", _ALL, "the checksum of the compressed stream does not match", _AGAIN),
    "codec.trailing_bytes": Code("repair", "skipped", (), "something that is not compressed follows the stream"),
    "codec.unsafe_member": Code("repair", "skipped", (), "archive members that are not plain files inside the archive"),
    "limit.file_bytes": Code(
        "loss", "skipped", _ALL, "the file is larger than the limit; the rest was not read", "raise the limit"
    ),
    "limit.event_bytes": Code("loss", "skipped", _ALL, "an event is larger than the limit", "raise the limit"),
    "limit.name": Code("repair", "clamped", (), "names longer than 65,536 characters were cut"),
    "event.not_an_object": Code("repair", "skipped", (), "elements of the event array that are not objects"),
    "event.no_phase": Code("loss", "skipped", _ALL, "events without a phase (`ph`)"),
    "event.no_start": Code("loss", "skipped", _ALL, "events without a usable `ts`"),
    "event.no_duration": Code("loss", "skipped", _ALL, "complete events without a usable `dur`"),
    "event.negative_duration": Code("repair", "clamped", _ALL, "negative durations became 0"),
    "event.time_outside": Code(
        "loss", "skipped", _ALL, "events more than an hour away from all others: their time cannot be right"
    ),
    "event.begin_without_end": Code("loss", "skipped", _ALL, "`B` events whose `E` is missing"),
    "event.end_without_begin": Code("loss", "skipped", _ALL, "`E` events whose `B` is missing"),
    "event.no_name": Code("repair", "kept", (), "events without a name"),
    "event.name_not_text": Code("repair", "renamed", (), "names that are not text: their JSON text is used"),
    "event.name_unknown": Code(
        "repair",
        "kept",
        (),
        "ranges and kernels named `unknown`: torch writes that for any name with non-ASCII characters",
        "use plain ASCII in range names",
    ),
    "event.no_thread": Code("repair", "kept", (), "complete events without process or thread"),
    "event.args_not_object": Code("repair", "kept", (), "`args` that is not an object was put under the key `value`"),
    "event.id_out_of_range": Code("repair", "skipped", ("launch",), "ids beyond 64 bits are null"),
    "event.number_out_of_range": Code(
        "repair", "repaired", (), "numbers in `args` that fit neither 64 bits nor a double became text"
    ),
    "event.number_impossible": Code(
        "repair",
        "skipped",
        (),
        "numbers in names or `Group size` that no rank, step or group can have; they are not used",
        "",
    ),
    "event.duplicates": Code(
        "repair",
        "skipped",
        _ALL,
        "the same event occurs more than once, at one time or moved by rounding; it counts once",
        "was the file merged with itself, or written by two profilers at once?",
    ),
    "event.crossing": Code("repair", "kept", (), "host ranges of one thread that cross without nesting"),
    "event.unknown_category": Code("repair", "kept", (), "device categories that are not known here"),
    "time.rounded": Code("repair", "kept", (), "times with digits below one nanosecond were rounded"),
    "time.not_a_number": Code("repair", "skipped", (), "times that are not numbers or exceed 64 bits"),
    "time.base_invalid": Code("repair", "assumed", _WAIT, "`baseTimeNanoseconds` cannot be a time; 0 is assumed"),
    "file.schema_version": Code("repair", "kept", (), "a `schemaVersion` that is not known here"),
    "file.foreign": Code("info", "skipped", (), "a file of another kind than a trace"),
    "file.not_a_trace": Code("info", "skipped", (), "a JSON file without `traceEvents`"),
    "file.unusable": Code("loss", "skipped", _ALL, "a file without any usable event", _AGAIN),
    "file.identical": Code("info", "skipped", (), "the same trace occurs twice; it is read once"),
    "record.unusable": Code(
        "loss", "skipped", ("recorded",), "a flight-recorder dump without any usable record", "dump again"
    ),
    "record.other_run": Code(
        "repair",
        "skipped",
        ("recorded",),
        "a flight-recorder dump of another run than the traces'",
        "give the dumps of the traced run, or these alone",
    ),
    "record.broken": Code(
        "loss", "skipped", ("recorded",), "records of NCCL Inspector that are cut or damaged", "copy the file again"
    ),
    "folder.leftover": Code("info", "skipped", (), "a temporary file of a writer that did not finish"),
    "folder.not_regular": Code("info", "skipped", (), "links out of the folder, pipes and devices are not opened"),
    "folder.too_deep": Code(
        "info",
        "skipped",
        (),
        "folders more than 12 below the given one are not searched",
        "give the folder of the traces",
    ),
    "folder.unreadable": Code(
        "loss", "skipped", _ALL, "a file that cannot be read for lack of permission", "change its permissions"
    ),
    "rank.assumed": Code(
        "repair", "assumed", (), "the rank is not recorded; as the only file, it is taken as rank 0", "give --rank-map"
    ),
    "rank.counted": Code(
        "info",
        "assumed",
        (),
        "only the numbers in the file names say which rank each is",
        "give --rank-map if they do not",
    ),
    "rank.invalid": Code(
        "repair", "skipped", (), "the recorded rank cannot be one; the next source of a rank was used"
    ),
    "rank.name_differs": Code(
        "repair", "kept", (), "the file's name and its content name different ranks; the content counts"
    ),
    "rank.unknown": Code(
        "loss", "skipped", (), "a trace without a rank beside traces that have one", "give --rank-map"
    ),
    "rank.missing": Code("info", "kept", _ALL, "fewer ranks than the job had"),
    "rank.merged": Code(
        "repair",
        "assumed",
        (),
        "one file holds the processes of several ranks: they are separated, and numbered in the order of their process numbers",
        "give one file per rank, as the profiler writes them",
    ),
    "rank.devices": Code(
        "info", "kept", (), "one process computes on several devices: each is measured as a rank of its own"
    ),
    "rank.several_devices": Code(
        "repair",
        "kept",
        _ALL,
        "a rank of several computes on more than one device: its time is that of all of them together",
        "profile with one device per process",
    ),
    "step.none": Code("info", "kept", ("step",), "no `ProfilerStep` range", "call `profiler.step()`"),
    "step.overlapping": Code("repair", "kept", ("step",), "`ProfilerStep` ranges overlap, repeat or are empty"),
    "device.none": Code("info", "kept", (), "no device events: on CPU traces the main thread is the device"),
    "device.only_named": Code(
        "repair",
        "kept",
        (),
        "the trace names a device but holds neither launches nor kernels: if the job computed on it, all figures are of its "
        "host alone",
        "profile with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]",
    ),
    "device.no_kernels": Code(
        "loss",
        "skipped",
        _ALL,
        "kernels were launched but none was recorded: the device's events are missing, so nothing is measured on this rank",
        "profile with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA] and permission to use CUPTI "
        "(NVreg_RestrictProfilingToAdminUsers=0), with no other profiler attached",
    ),
    "device.kernels_missing": Code(
        "loss",
        "kept",
        _ALL,
        "launches whose kernels were not recorded, though later ones were: the profiler lost them",
        "capture fewer steps, after steps that only warm the profiler up (schedule(warmup=...))",
    ),
    "device.no_launch": Code("repair", "kept", ("launch",), "kernels whose launch is not in the trace"),
    "device.early_kernels": Code(
        "repair",
        "kept",
        ("launch",),
        "single kernels start before the call that launched them, so one of the two times is wrong; idle time before them is "
        "not called the host's",
    ),
    "device.clock_ahead": Code(
        "repair",
        "repaired",
        ("launch",),
        "kernels start before the calls that launched them: the device's clock is ahead of the host's; its times are put later "
        "by the largest difference",
    ),
    "device.clock_drifts": Code(
        "repair",
        "kept",
        ("launch",),
        "kernels start before the calls that launched them, and not all by the same time: the device's clock is ahead of the "
        "host's or drifts, and by how much is not known; idle time of this rank is called the host's only beyond the largest "
        "difference",
        "capture fewer steps, with a newer driver and profiler",
    ),
    "device.late_end": Code(
        "repair",
        "clamped",
        _ALL,
        "kernels run more than 50 us past the start of the next one on their stream, so their end is wrong; they are cut there",
    ),
    "comm.no_metadata": Code(
        "repair", "kept", ("all_to_all",), "communication kernels without arguments that say what they did"
    ),
    "comm.group_conflict": Code(
        "repair", "kept", ("all_to_all",), "two process groups share a name but not their ranks"
    ),
    "nsys.no_name": Code(
        "repair",
        "renamed",
        (),
        "rows of an Nsight Systems export whose name is missing: the number of the text is used",
    ),
    "nsys.whole_graph": Code(
        "repair",
        "kept",
        _ALL,
        "CUDA graphs that were recorded whole: what communicates inside them counts as computation",
        "profile with nsys --cuda-graph-trace=node",
    ),
    "check.skipped": Code(
        "info", "kept", (), "a file with more than 16 million complete events is not checked as a whole"
    ),
    "capture.incomplete": Code(
        "loss",
        "kept",
        _ALL,
        "an ingest was stopped: ranks may be missing",
        "run traceanalyzer ingest again; it resumes",
    ),
    "run.damaged_line": Code("loss", "skipped", (), "a line of a step or routing file that is not a record"),
    "run.several_writers": Code(
        "loss",
        "kept",
        _ALL,
        "several processes recorded at once as this rank, and their files overwrote each other: two launchers in one folder, "
        "or a recorder made before init_process_group",
        "record again, every run into a folder of its own",
    ),
    "run.earlier_run": Code(
        "repair",
        "kept",
        (),
        "step records of an earlier run stand beside those of the last one",
        "record into a new folder",
    ),
    "run.damaged_job": Code("repair", "skipped", (), "`run.json` does not describe a job; it is inferred instead"),
}
"""Every code that reading can report."""
