"""`traceanalyzer compare BASE NEW...`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.gate import GateFiles, gate_options, judge
from traceanalyzer.cli.options.job import job_options
from traceanalyzer.cli.options.reading import announce, choice_options, columns_option, rank_map_option
from traceanalyzer.cli.screen import say, screen_width

if TYPE_CHECKING:
    from traceanalyzer.comparison.side import Side
    from traceanalyzer.traces.input.discovery import Where


@click.command("compare", cls=Command)
@click.argument("base")
@click.argument("new", nargs=-1, required=True)
@click.option(
    "--base-too",
    "more_bases",
    metavar="PATH",
    multiple=True,
    help="A further run of the base's job: several show how much runs differ; repeatable.",
)
@click.option(
    "--floor",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Difference between runs of one job that counts as chance, in % of the step [1, or by --base-too].",
)
@click.option(
    "--force-compare",
    "forced",
    metavar="FACT",
    multiple=True,
    help="Compare although this fact differs, for example model; repeatable.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write the comparison as JSON; - is standard output.")
@click.option(
    "--html", "-o", "html_file", type=click.Path(path_type=Path), metavar="FILE", help="Write one offline HTML page."
)
@gate_options
@columns_option
@rank_map_option
@choice_options
@job_options
def command(
    base: str,
    new: tuple[str, ...],
    more_bases: tuple[str, ...],
    floor: float | None,
    forced: tuple[str, ...],
    json_file: str | None,
    html_file: Path | None,
    gate_file: Path | None,
    junit_file: str | None,
    gate_json: str | None,
    form: str,
    **asked: Any,  # noqa: ANN401 - options of several types
) -> None:
    """Say what changed between BASE and each NEW, by how much, and who or what did it.

    Each may be traces, a capture, a result that `analyze --out` kept, or a review.json alone, which says less. If a run is
    several files, put a colon between the runs: base/*.json : new/*.json.
    """
    from reports.comparison import render_comparison
    from traceanalyzer.analysis.kept import is_result
    from traceanalyzer.cli.analyze import kept
    from traceanalyzer.cli.options.runs import refuse_ranks_as_runs, runs_of
    from traceanalyzer.comparison.compare import compare
    from traceanalyzer.comparison.record import to_json
    from traceanalyzer.errors import UsageError
    from traceanalyzer.output import write_result

    if str(html_file) == "-":
        raise UsageError("--html -: the page is written to a file", "name a file: --html comparison.html")
    files = GateFiles(gate_file, junit_file, gate_json)
    quiet = files.quiet(json_file)
    files.check(has_base=True)
    first, *others = runs_of((base, *new))
    places = list(dict.fromkeys((first, *others, *more_bases)))
    if all(isinstance(place, str) and is_result(place) for place in places):
        kept(first, asked)  # options that describe a job are refused where no traces are read
    sides = {place: _side(place, asked) for place in places}
    refuse_ranks_as_runs([sides[place] for place in (first, *others)])
    found = compare(
        sides[first],
        [sides[place] for place in others],
        more_bases=[sides[place] for place in more_bases],
        floor=None if floor is None else floor / 100,
        forced=forced,
    )
    if json_file is not None:
        write_result(json_file, to_json(found))
    if html_file is not None:
        render_comparison(found, html_file, {side.path: (side.review, side.tables) for side in sides.values()})
    if not quiet:
        _print(found, form)
        if html_file is not None and form == "text":
            say(f"page: {html_file}")
    reviews = [(sides[place].path, sides[place].review) for place in others]
    judge(files, reviews, sides[first].review, found.floor_share, form, quiet=quiet)


def _print(found: Any, form: str) -> None:  # noqa: ANN401 - imported late
    from reports.comparison import comparison_markdown, comparison_text

    if form == "md":
        say(comparison_markdown(found), end="")
    elif form == "text":
        say(comparison_text(found, screen_width()))
    else:
        announce(found.sentences, say)


def _side(path: Where, asked: dict[str, Any]) -> Side:
    """A run as a side. Options that describe a job do not apply to results, which have theirs."""
    from traceanalyzer.analysis.kept import is_result, read_result
    from traceanalyzer.cli.analyze import measured
    from traceanalyzer.comparison.side import Side

    result = read_result(path) if isinstance(path, str) and is_result(path) else measured(path, asked)
    return Side(str(path), result.review, result.tables)
