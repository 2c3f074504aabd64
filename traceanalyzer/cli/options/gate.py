"""What `analyze` and `compare` share of gates: their options, and what a broken limit does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.cli.screen import say

if TYPE_CHECKING:
    from traceanalyzer.gates.file import Gate
    from traceanalyzer.gates.outcome import Outcome
    from traceanalyzer.review import Review

FORMATS = ("text", "md", "github")


def gate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--gate`, `--junit`, `--gate-json` and `--format`; the command takes `gate_file`, `junit_file`, `gate_json`, `form`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--gate",
        "gate_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Fail (status 1) if a limit of this file is broken; `gate init` writes one.",
    ),
    click.option("--junit", "junit_file", metavar="FILE", help="With --gate: write its outcome as JUnit XML."),
    click.option(
        "--gate-json", "gate_json", metavar="FILE", help="With --gate: write its outcome as JSON; - is standard output."
    ),
    click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="text",
        show_default=True,
        help="Print text, Markdown for a pull request, or annotations for a GitHub workflow.",
    ),
)


@dataclass(frozen=True, slots=True)
class GateFiles:
    """What was asked of a gate."""

    gate: Path | None
    junit: str | None
    json: str | None

    def quiet(self, json_file: str | None) -> bool:
        """Whether standard output holds a file. Raises `UsageError` if there is no gate."""
        from traceanalyzer.errors import UsageError

        given = {"--json": json_file, "--junit": self.junit, "--gate-json": self.json}
        for option in ("--junit", "--gate-json"):
            if given[option] is not None and self.gate is None:
                raise UsageError(f"{option} writes the outcome of a gate, and none is given", "give --gate FILE")
        return "-" in given.values()

    def check(self, *, has_base: bool) -> None:
        """Read the gate before anything is measured. Raises `UsageError` where it is wrong or lacks its baseline.

        `has_base`: what it is held against is given beside it.
        """
        from traceanalyzer.gates.file import read_gate
        from traceanalyzer.gates.outcome import refuse_without_baseline

        if self.gate is not None:
            gate = read_gate(self.gate)
            is_there = has_base or _baseline(gate, self.gate) is not None
            refuse_without_baseline(gate, is_there=is_there, where=f"{self.gate}: ")


def judge(
    files: GateFiles,
    reviews: Sequence[tuple[str, Review]],
    baseline: Review | None,
    floor: float | None,
    form: str,
    *,
    quiet: bool = False,
) -> None:
    """Hold results against a gate, print and write what came of it. Raises `GateError` if a limit is broken.

    Args:
        files: the gate, and where its outcome is written; without a gate nothing is done.
        reviews: what is judged, by path.
        baseline: what relative limits are against; None: what the gate's file names.
        floor: share of the step by which runs may differ; None: as the file says.
        form: of `FORMATS`.
        quiet: standard output holds something else: lines go to standard error.
    """
    from traceanalyzer.cli.records import judgement, written
    from traceanalyzer.errors import GateError
    from traceanalyzer.gates.file import read_gate
    from traceanalyzer.gates.formats import junit
    from traceanalyzer.gates.outcome import judged
    from traceanalyzer.output import write_result

    if files.gate is None:
        return
    gate = read_gate(files.gate)
    against = baseline if baseline is not None else _baseline(gate, files.gate)
    of_runs = [(path, judged(gate, review, against, floor)) for path, review in reviews]
    outcomes = [each for path, found in of_runs for each in _named(found, path, reviews)]
    if files.junit is not None:
        write_result(files.junit, junit(outcomes, str(files.gate)))
    if files.json is not None:
        write_result(files.json, written(judgement(str(files.gate), of_runs)))
    for line in _lines(outcomes, form):
        say(line, err=quiet)
    broken = sum(each.status == "broken" for each in outcomes)
    if broken:
        are = "is" if broken == 1 else "are"
        raise GateError(
            f"{files.gate}: {broken} of {len(outcomes)} limits {are} broken",
            "the lines above say which, and by how much",
        )


def _named(outcomes: list[Outcome], path: str, reviews: Sequence[tuple[str, Review]]) -> list[Outcome]:
    """Outcomes with the run they are of, where there are several."""
    from dataclasses import replace

    return [replace(each, name=f"{path}: {each.name}") for each in outcomes] if len(reviews) > 1 else outcomes


def _baseline(gate: Gate, gate_file: Path) -> Review | None:
    from traceanalyzer.analysis.kept import read_result

    return None if gate.baseline is None else read_result(gate_file.parent / gate.baseline).review


def _lines(outcomes: Sequence[Outcome], form: str) -> list[str]:
    from reports.page.markdown import gate_table
    from reports.page.text import safe_text
    from traceanalyzer.gates.formats import github, lines, rows

    if form == "md":
        return [gate_table(rows(outcomes))]
    return [safe_text(line) for line in (github(outcomes) if form == "github" else lines(outcomes))]
