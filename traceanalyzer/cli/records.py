"""What commands write with `--json` beside the review, the prediction and the tables; every field typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from traceanalyzer.errors import UsageError

if TYPE_CHECKING:
    from traceanalyzer.gates.outcome import Outcome

SCHEMA_VERSION = 1
Rows = Annotated[list[dict[str, Any]], Meta(description="Rows; `table PATH --json` lists the columns and units.")]


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every record begins with."""

    schema_version: int = SCHEMA_VERSION


class EventCounts(Struct, frozen=True, kw_only=True):
    """What was read; seen is kept and dropped."""

    events_seen: int
    events_kept: int
    events_dropped: Annotated[dict[str, int], Meta(description="By reason.")]
    bytes_seen: Annotated[int, Meta(description="Of decompressed text.")]
    bytes_kept: int
    bytes_dropped: Annotated[dict[str, int], Meta(description="By reason.")]


class RecordCounts(Struct, frozen=True, kw_only=True):
    """Records of communication libraries."""

    flight_recorder: int
    nccl_inspector: int


class CheckRecord(Record, frozen=True, kw_only=True):
    """What `check --json` writes."""

    ranks: Annotated[Rows, Meta(description="Of the table `ranks`, without groups and devices.")]
    counts: EventCounts
    defects: Annotated[Rows, Meta(description="Of the table `defects`.")]
    unmatched_kernels: Annotated[
        list[dict[str, Any]], Meta(description="Kernels that no rule knows: name, num_kernels, duration_ns.")
    ]
    records: RecordCounts


class IngestRecord(Record, frozen=True, kw_only=True):
    """What `ingest --json` writes."""

    capture: Annotated[str, Meta(description="Folder of the capture.")]
    num_files_read: int
    num_files_unchanged: Annotated[int, Meta(description="Held by the capture already and not read again.")]
    num_files_left_out: Annotated[int, Meta(description="Records of communication libraries, analysed where they are.")]
    ranks: list[int]
    counts: EventCounts
    defects: Annotated[Rows, Meta(description="Of the table `defects`.")]


class RunRecord(Record, frozen=True, kw_only=True):
    """What `run --json` writes; of a sweep the file sweep.json in its folder has every point."""

    folder: str
    kind: Literal["pipeline", "experts", "dense"]
    num_ranks: int
    compute_mode: Literal["real", "paced"]
    settings: Annotated[dict[str, Any], Meta(description="Everything that was asked for, by its own name.")]


class DoctorRecord(Record, frozen=True, kw_only=True):
    """What `doctor --json` writes; nothing in it names a host, a user or a path."""

    version: str
    python: str
    system: str
    num_cores: Annotated[int, Meta(description="That this process may use.")]
    memory_bytes: int | None
    clock: str
    clock_resolution_ns: float
    compiled_decoder: Annotated[bool, Meta(description="Whether traces are read by compiled code.")]
    devices: Annotated[list[str], Meta(description="GPUs with their driver.")]
    nccl: str | None
    profiler_permission: Annotated[str, Meta(description="Who may record GPU activity.")]
    browser: str | None
    packages: Annotated[dict[str, str | None], Meta(description="Name to version; null if it is not installed.")]


class LayerPlacementRecord(Struct, frozen=True, kw_only=True):
    """The proposal for one expert layer and group."""

    layer: int | None
    group: Annotated[list[int], Meta(description="Global ranks.")]
    rank_load_before: Annotated[float, Meta(description="Fullest rank over the mean.")]
    rank_load_after: Annotated[float, Meta(description="As proposed.")]
    experts_of_rank: Annotated[list[list[int]], Meta(description="Slot by slot, in the order of the ranks.")]


class NetworkRecord(Struct, frozen=True, kw_only=True):
    """One dispatch on a described cluster, mean over layers and steps; latency and bandwidth alone."""

    cluster: str
    ranks_per_node: int
    token_bytes: float
    dispatch_us_before: float
    dispatch_us_after: float
    far_share_before: Annotated[float, Meta(description="Of the bytes: what leaves its node.")]
    far_share_after: float


class PlacementRecord(Record, frozen=True, kw_only=True):
    """What `plan experts --json` writes; `--placement` writes the file for a training job."""

    rank_load_before: float
    rank_load_after: float
    held_out: Annotated[bool, Meta(description="Each step was judged by a placement made from the other steps.")]
    saved_ms: Annotated[float | None, Meta(description="Per step; null if the imbalance could not be priced.")]
    num_moved: int
    num_redundant: int
    network: Annotated[
        NetworkRecord | None,
        Meta(description="With --hardware: what the exchanges cost; null if a token's bytes are not known."),
    ] = None
    layers: list[LayerPlacementRecord]


class GateRecord(Record, frozen=True, kw_only=True):
    """What `gate init --json` writes."""

    gate: Annotated[str, Meta(description="The gate's file.")]
    baseline: Annotated[str, Meta(description="The review that its relative limits are against.")]
    paths: Annotated[list[str], Meta(description="Of every limit: the field of review.json, in the file's order.")]
    min_steps: int | None
    min_ranks: int | None


class OutcomeRecord(Struct, frozen=True, kw_only=True):
    """What became of one limit of a gate."""

    run: Annotated[str, Meta(description="The path that was judged.")]
    name: Annotated[str, Meta(description="Of the limit, with the place in a list.")]
    path: Annotated[str, Meta(description="The field of review.json, or min_steps or min_ranks.")]
    status: Literal["held", "broken", "skipped"]
    is_withheld: Annotated[bool, Meta(description="There was no value to judge; status is as on_withheld says.")]
    value: Annotated[float | bool | str | None, Meta(description="What was judged, in the unit of its field.")]
    baseline: Annotated[float | None, Meta(description="The baseline's value; null for absolute limits.")]
    at_least: Annotated[float | None, Meta(description="The least value that holds, noise included.")]
    at_most: Annotated[float | None, Meta(description="The largest value that holds, noise included.")]
    text: str


class JudgementRecord(Record, frozen=True, kw_only=True):
    """What `analyze` and `compare` write with `--gate-json`; exit status 1 where `passed` is false."""

    gate: Annotated[str, Meta(description="The gate's file.")]
    passed: Annotated[bool, Meta(description="No limit is broken.")]
    num_held: int
    num_broken: int
    num_skipped: int
    outcomes: Annotated[list[OutcomeRecord], Meta(description="Run by run, in the order of the gate's file.")]


def judgement(gate: str, of_runs: Sequence[tuple[str, Sequence[Outcome]]]) -> JudgementRecord:
    """The record of what came of a gate, from the outcomes of every run."""
    outcomes = [
        OutcomeRecord(
            run=path,
            name=each.name,
            path=each.path,
            status=each.status,
            is_withheld=each.is_withheld,
            value=each.value,
            baseline=each.baseline,
            at_least=each.at_least,
            at_most=each.at_most,
            text=each.text,
        )
        for path, found in of_runs
        for each in found
    ]
    held, broken, skipped = (
        sum(each.status == status for each in outcomes) for status in ("held", "broken", "skipped")
    )
    return JudgementRecord(
        gate=gate, passed=not broken, num_held=held, num_broken=broken, num_skipped=skipped, outcomes=outcomes
    )


class TimelineRecord(Record, frozen=True, kw_only=True):
    """What `perfetto --json` writes."""

    file: str
    format: Literal["perfetto", "json"]
    num_processes: int
    num_slices: int
    num_flows: int
    num_bytes: int
    notes: Annotated[list[str], Meta(description="What is not in the file, and why.")]


def written(record: object) -> bytes:
    """A record as JSON text."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def _of_type(record: type[Struct]) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(record)))


def _review() -> dict[str, Any]:
    from traceanalyzer.review import json_schema

    return json_schema()


def _prediction() -> dict[str, Any]:
    from traceanalyzer.theory.prediction.record import json_schema

    return json_schema()


def _plan() -> dict[str, Any]:
    from traceanalyzer.theory.planning.record import PlanRecord

    return _of_type(PlanRecord)


def _comparison() -> dict[str, Any]:
    from traceanalyzer.comparison.record import json_schema

    return json_schema()


def _tables() -> dict[str, Any]:
    from traceanalyzer.queries.catalogue import Catalogue

    return _of_type(Catalogue)


_SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "run": lambda: _of_type(RunRecord),
    "ingest": lambda: _of_type(IngestRecord),
    "check": lambda: _of_type(CheckRecord),
    "analyze": _review,
    "report": _review,
    "compare": _comparison,
    "gate": lambda: _of_type(JudgementRecord),
    "gate init": lambda: _of_type(GateRecord),
    "perfetto": lambda: _of_type(TimelineRecord),
    "predict": _prediction,
    "plan job": _plan,
    "plan experts": lambda: _of_type(PlacementRecord),
    "table": _tables,
    "doctor": lambda: _of_type(DoctorRecord),
}
"""By command."""
COMMANDS_WITH_SCHEMA = tuple(_SCHEMAS)


def schema(command: str) -> dict[str, Any]:
    """JSON Schema of what a command writes with `--json`. Raises `UsageError`."""
    if command not in _SCHEMAS:
        raise UsageError(f"'{command}' is not a command with a record", f"commands: {', '.join(_SCHEMAS)}")
    return _SCHEMAS[command]()
