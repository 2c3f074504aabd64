"""`traceanalyzer plan job`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.screen import say

if TYPE_CHECKING:
    from traceanalyzer.theory.planning.plan import Plan


@click.command("job", cls=Command)
@click.option("--model", metavar="NAME|FILE", required=True, help="A preset, or a configuration file.")
@click.option("--gpus", type=click.IntRange(1, 1 << 20), required=True, help="Devices.")
@click.option("--hardware", metavar="NAME", required=True, help="A described cluster, for example 'DGX H100'.")
@click.option("--seq", type=click.IntRange(1), required=True, help="Tokens of a sequence.")
@click.option("--batch", type=click.IntRange(1), required=True, help="Sequences of a step, over all devices.")
@click.option(
    "--recipe", default="bf16", show_default=True, help="Bytes per parameter, by number format and optimizer."
)
@click.option(
    "--framework",
    type=click.Choice(["any", "megatron", "torchtitan", "deepspeed"]),
    default="any",
    show_default=True,
    help="Only what this framework can run.",
)
@click.option(
    "--context",
    type=click.Choice(["ring", "all_gather", "ulysses"]),
    default="ring",
    show_default=True,
    help="How context parallelism shares keys and values.",
)
@click.option(
    "--dedup/--no-dedup", default=False, show_default=True, help="A token travels once to each domain of its experts."
)
@click.option(
    "--load-ratio",
    type=click.FloatRange(1),
    default=1.0,
    show_default=True,
    help="Tokens of the fullest expert rank over their mean.",
)
@click.option("--memory-gib", type=click.FloatRange(0, min_open=True), help="What a device holds [by its name].")
@click.option(
    "--fixed-gib",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Context of the device, libraries, communicators.",
)
@click.option(
    "--fragmentation",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share of activations and working space that the allocator cannot use.",
)
@click.option(
    "--calibrate",
    metavar="RESULT",
    help="Take rates, host time and imbalance from a result of analyze on the same device: review.json or its folder.",
)
@click.option("--most", type=click.IntRange(1, 100), default=10, show_default=True, help="Configurations to list.")
@click.option("--json", "json_file", metavar="FILE", help="Write the plan as JSON; - is standard output.")
@click.option(
    "--html",
    "html_file",
    metavar="FILE",
    help="Write the plan as one offline HTML page, with a map of sizes and devices.",
)
@click.option("--torchtitan", metavar="FILE", help="Write the best that torchtitan can run as its job file.")
@click.option("--megatron", metavar="FILE", help="Write the best that Megatron-LM can run as its arguments.")
@click.option("--deepspeed", metavar="FILE", help="Write the best that DeepSpeed can run as its JSON.")
def command(**options: object) -> None:
    """Choose parallel degrees, schedule, microbatches, ZeRO stage and recomputation for a model on a cluster.

    Everything that is valid is priced; nothing is run. Prices are of a run without jitter, host delay and contention.
    """
    from dataclasses import asdict

    import msgspec

    from traceanalyzer.cli.planning.inputs import read_options
    from traceanalyzer.cli.planning.text import calibration_text, plan_text
    from traceanalyzer.output import write_result
    from traceanalyzer.theory.planning.plan import plan
    from traceanalyzer.theory.planning.record import record

    given = read_options(options)
    calibration = given.calibration()
    planned = plan(given.job())
    found = record(planned) | ({} if calibration is None else {"calibration": asdict(calibration)})
    if given.html_file is not None:
        found |= _write_page(planned, found, given.html_file)
    if given.json_file is not None:
        write_result(given.json_file, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    written = [_write(given.job(name), name, target) for name, target in given.outputs]
    if "-" in (given.json_file, *(target for _, target in given.outputs)):
        return
    if calibration is not None:
        say(calibration_text(calibration) + "\n")
    say(plan_text(planned, given.most))
    for line in written:
        say(line)
    if given.html_file is not None:
        say(f"page: {given.html_file}")


def _write_page(planned: Plan, found: dict[str, Any], target: str) -> dict[str, Any]:
    """Write the page; what it adds to the record: other sizes and numbers of devices."""
    from dataclasses import asdict
    from pathlib import Path

    from reports.planning import render_plan
    from traceanalyzer.theory.planning.sizes import FACTORS, sizes_and_devices

    say(f"searching {len(FACTORS)} sizes on {len(FACTORS)} numbers of devices", err=True)
    cells = sizes_and_devices(planned.job)
    added = {"sizes_and_devices": [asdict(each) for each in cells]}
    render_plan(planned, cells, found | added, Path(target))
    return added


def _write(job: object, framework: str, target: str) -> str:
    """Search what the framework can run and write the best of it."""
    from traceanalyzer.output import write_result
    from traceanalyzer.theory.planning.formats import first_written
    from traceanalyzer.theory.planning.job import PlanJob
    from traceanalyzer.theory.planning.search import search

    assert isinstance(job, PlanJob)  # noqa: S101 - it keeps heavy imports out of --help
    best, text = first_written(job, search(job).ranked, framework)
    write_result(target, text.encode())
    return f"{framework}: {best.step_ns / 1e9:.4g} s, {best.configuration.text()} -> {target}"
