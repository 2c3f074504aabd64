"""Read, analyze, compare, predict, report: the commands as functions, with the same names, defaults and refusals.

Every function raises `TraceAnalyzerError` with a `message` and a `hint`: `InputError` where a file cannot be used,
`UsageError` where what was asked makes no sense, `OutputError` where a file cannot be written whole.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from msgspec.structs import replace

from traceanalyzer.analysis import assemble
from traceanalyzer.analysis.kept import is_result, read_result
from traceanalyzer.analysis.run import Run
from traceanalyzer.api.guard import guarded
from traceanalyzer.api.results import ComparisonResult, PredictionResult, Result
from traceanalyzer.comparison import compare as comparing
from traceanalyzer.comparison.side import Side
from traceanalyzer.errors import UsageError
from traceanalyzer.options.declaration import declaration
from traceanalyzer.options.job_prices import job_record, price_job
from traceanalyzer.options.prediction import PredictionOptions, read_options, results
from traceanalyzer.theory.prediction.record import record

PathLike = str | os.PathLike[str]


class Declared(TypedDict, total=False):
    """What may be declared of the job behind traces, as the options of `traceanalyzer analyze`."""

    adapter: str | None
    """PEFT's adapter_config.json."""
    tokens_per_step: int | None
    """Over the whole job."""
    sequence_length: int | None
    num_devices: int | None
    dtype: str | None
    recompute: str | None
    """`none`, `selective` or `full`."""
    peak_tflops: float | None
    """Dense peak of one device, 10¹² FLOP/s."""
    flops_per_token: float | None
    flops_per_step: float | None
    kernel_rules: str | None
    """CSV of pattern,kind,operation."""


@guarded
def read(
    path: PathLike,
    *,
    ranks: Collection[int] | None = None,
    steps: Collection[int] | None = None,
    rank_map: Mapping[str, int] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Run:
    """Read a run folder, a folder of traces, a capture, one trace file or an op table.

    Args:
        path: a local path, or a URL that fsspec can open.
        ranks: look at these ranks alone.
        steps: look at these steps alone.
        rank_map: ranks by file name or pattern, where files do not tell them.
        columns: our names of an op table's columns and the file's.

    Raises:
        InputError: nothing at `path` can be used.
        UsageError: nothing that was chosen is here, or `path` is a kept result (`load` opens it).
    """
    if is_result(Path(path)):
        raise UsageError(f"{path}: is a kept result, not traces", "open it with load(path), or analyze(path)")
    return assemble.read(os.fspath(path), columns, rank_map=rank_map, ranks=ranks, steps=steps)


@guarded
def load(path: PathLike) -> Result:
    """A result that was kept by `Result.save` or `analyze --out`; of a `review.json` alone without tables.

    Raises `InputError` if something is damaged or nothing is there.
    """
    kept = read_result(Path(path))
    return Result(kept.review, kept.tables)


@guarded
def analyze(run: Run | PathLike, *, job: PathLike | None = None, **declared: Unpack[Declared]) -> Result:
    """Measure a run and set it against theory.

    Args:
        run: what `read` gave; or a path, which is read; a kept result is opened as it is.
        job: a job's or model's description: run.json, a Hugging Face config.json, Megatron-LM arguments, a torchtitan
            file, or a model's name.
        **declared: what the traces do not tell, as `Declared` lists it; MFU needs model, tokens and sequence length.

    Raises:
        InputError: a file cannot be used.
        UsageError: what is declared makes no sense, or is declared of a kept result.
    """
    if not isinstance(run, Run):
        if is_result(Path(run)):
            if job is not None or declared:
                raise UsageError(f"{run}: is a kept result, which nothing declared can change", "give the traces")
            return load(run)
        run = read(run)
    if job is not None or declared:
        said = declaration(job_file=None if job is None else os.fspath(job), **declared)
        run = assemble.with_declaration(run, said)
    measured = assemble.analyze(run)
    return Result(measured.review, measured.tables)


@guarded
def compare(
    base: Result | PathLike,
    *new: Result | PathLike,
    more_bases: Sequence[Result | PathLike] = (),
    floor: float | None = None,
    forced: Collection[str] = (),
) -> ComparisonResult:
    """Say what changed between a run and others, by how much, and who or what did it.

    Args:
        base: the run to compare with: a result, or a path, which is analyzed or opened.
        *new: the others, in their order.
        more_bases: further runs of the base's job, which tell how much runs differ.
        floor: share of the step by which runs of one job may differ; None: from the bases, else 1%.
        forced: facts that may differ though they make steps incomparable, for example `model`.

    Raises:
        UsageError: the jobs cannot be compared, naming the facts; or there is nothing to compare with.
        InputError: a file cannot be used.
    """
    if not new:
        raise UsageError("a base alone is not a comparison", "give one more run: compare(base, new)")
    found = comparing.compare(
        _side(base),
        [_side(each) for each in new],
        more_bases=[_side(each) for each in more_bases],
        floor=floor,
        forced=forced,
    )
    return ComparisonResult(found)


def _side(run: Result | PathLike) -> Side:
    result = run if isinstance(run, Result) else analyze(run)
    path = result.review.source.path if isinstance(run, Result) else os.fspath(run)
    return Side(path, result.review, result.tables)


@guarded
def predict(
    schedules: str | Sequence[str],
    *,
    stages: int,
    microbatches: int,
    chunks: int = 2,
    **options: Unpack[PredictionOptions],
) -> PredictionResult:
    """Predict bubble and peak memory of pipeline schedules, by simulation and by closed form.

    Args:
        schedules: names, as a list or separated by commas; `all`.
        stages: ranks of the pipeline.
        microbatches: per step and pipeline.
        chunks: stages of a rank, where a schedule leaves it open.
        **options: times, messages, model and cluster, as `PredictionOptions` lists them.

    Raises:
        UsageError: options make no sense together.
        DomainError: no schedule of those asked for exists for these sizes.
    """
    unknown = sorted(set(options) - set(PredictionOptions.__annotations__))
    if unknown:
        known = ", ".join(PredictionOptions.__annotations__)
        raise UsageError(
            f"a prediction takes no {unknown[0]}", f"beside stages, microbatches and chunks it takes {known}"
        )
    names = schedules if isinstance(schedules, str) else ",".join(schedules)
    sizes = {"num_ranks": stages, "num_microbatches": microbatches, "num_chunks": chunks}
    given = read_options({"schedules": names, **sizes, **options})
    predicted = results(given)
    found = record(predicted)
    if given.hardware is not None:
        found = replace(found, job=job_record(price_job(given, predicted)))
    return PredictionResult(found, predicted)


@guarded
def report(result: Result | PredictionResult | ComparisonResult, path: PathLike) -> Path:
    """Write the report of a result as one offline HTML file; its path. Raises `OutputError`."""
    return result.report(path)
