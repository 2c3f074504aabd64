"""`traceanalyzer gate`."""

from __future__ import annotations

from pathlib import Path

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.reading import one_place, paths_argument
from traceanalyzer.cli.screen import say


@click.group("gate")
def command() -> None:
    """Limits that a build may not break: `analyze --gate FILE` and `compare --gate FILE` hold a run against them."""


@command.command("init", cls=Command, short_help="Write a gate's file and its baseline for runs like PATH.")
@paths_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("gate.toml"),
    show_default=True,
    help="The gate's file.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    help="Where to keep the review to compare with [baseline.json beside the gate's file].",
)
@click.option("--json", "json_file", metavar="FILE", help="Write which files and limits were made as JSON; - is standard output.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace files that are there.")
def init(paths: tuple[str, ...], output: Path, baseline: Path | None, json_file: str | None, *, force: bool) -> None:
    """Write a gate's file for runs like PATH, with its review.json as the baseline.

    PATH is a result that `analyze --out` kept, a review.json, or traces.
    """
    import os

    from traceanalyzer.cli.analyze import kept, measured
    from traceanalyzer.cli.records import GateRecord, written
    from traceanalyzer.errors import UsageError
    from traceanalyzer.gates.file import read_gate
    from traceanalyzer.gates.initial import initial_gate
    from traceanalyzer.output import write_result
    from traceanalyzer.review import to_json

    asked: dict[str, object] = {"columns": None, "rank_map": None, "ranks": None, "steps": None}
    kept_at = baseline or output.parent / "baseline.json"
    for file in (output, kept_at):
        if file.exists() and not force:
            raise UsageError(f"{file}: already exists", "name another file, or give --force to replace it")
    path = one_place(paths)
    result = kept(path, {}) or measured(path, asked)
    relative = os.path.relpath(kept_at, output.parent)
    write_result(kept_at, to_json(result.review))
    write_result(output, initial_gate(result.review, Path(relative).as_posix()).encode())
    if json_file is not None:
        gate = read_gate(output)
        record = GateRecord(
            gate=str(output),
            baseline=str(kept_at),
            paths=[limit.path for limit in gate.limit],
            min_steps=gate.min_steps,
            min_ranks=gate.min_ranks,
        )
        write_result(json_file, written(record))
    if json_file == "-":
        return
    say(f"gate: {output}\nbaseline: {kept_at}")
    say(f"try it: traceanalyzer analyze {path} --gate {output}")
