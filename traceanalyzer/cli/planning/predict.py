"""`traceanalyzer predict`."""

from __future__ import annotations

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.screen import say, screen_width


@click.command("predict", cls=Command)
@click.option(
    "-s", "--schedule", "schedules", metavar="NAMES", default="", help="Schedules by name, separated by commas; 'all'."
)
@click.option(
    "--order", "orders", metavar="FILE", multiple=True, help="An order as CSV in PyTorch's format; repeatable."
)
@click.option("-p", "--stages", "num_ranks", type=click.IntRange(1), required=True, help="Ranks of the pipeline.")
@click.option(
    "-m", "--microbatches", "num_microbatches", type=click.IntRange(1), required=True, help="Per step and pipeline."
)
@click.option(
    "-v",
    "--chunks",
    "num_chunks",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Per rank, for schedules that leave it open.",
)
@click.option("--group", "group_size", type=click.IntRange(1), help="Microbatches per group of interleaved schedules.")
@click.option(
    "--forward-ms", type=click.FloatRange(0), help="Forward of one microbatch on one rank's share of the model [10]."
)
@click.option("--backward-ms", type=click.FloatRange(0), help="Full backward, likewise [twice the forward].")
@click.option("--weight-ms", type=click.FloatRange(0), help="The weight-gradient's part of the backward [half of it].")
@click.option("--stage-scale", metavar="LIST", help="Factors that make stages unequal, one per rank: 1,1,1,1.3.")
@click.option(
    "--calibrate",
    metavar="RESULT",
    help="Take times from a run, with or without pipeline: a result that analyze --out kept, or traces.",
)
@click.option("--model", metavar="NAME|FILE", help="Take times from a model: a preset, or a configuration file.")
@click.option("--device", metavar="NAME", help="With --model: the device, for example 'H100 SXM'.")
@click.option("--dtype", default="bf16", show_default=True, help="With --model: number format.")
@click.option(
    "--efficiency",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="With --model: share of the dense peak that a stage reaches.",
)
@click.option(
    "--sequence",
    "sequence_length",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="With --model: tokens of a sequence.",
)
@click.option(
    "--microbatch-size",
    type=click.IntRange(1),
    help="With --model: sequences of a microbatch [1]; with --calibrate: times grow with them [the run's own].",
)
@click.option(
    "--hardware",
    metavar="NAME",
    help="With --model: a described cluster; adds MFU, memory and exchanges of the whole job.",
)
@click.option("--tp", type=click.IntRange(1), default=1, help="With --hardware: tensor parallelism.")
@click.option("--cp", type=click.IntRange(1), default=1, help="With --hardware: context parallelism.")
@click.option("--dp", type=click.IntRange(1), default=1, help="With --hardware: data-parallel replicas.")
@click.option("--ep", type=click.IntRange(1), default=1, help="With --hardware: expert parallelism.")
@click.option("--etp", type=click.IntRange(1), default=1, help="With --hardware: slices of an expert.")
@click.option("--zero", type=click.IntRange(0, 3), default=1, show_default=True, help="With --hardware: ZeRO stage.")
@click.option("--recipe", default="bf16", show_default=True, help="With --hardware: bytes per parameter, by name.")
@click.option(
    "--recompute",
    type=click.Choice(["none", "selective", "full"]),
    help="With --hardware or --calibrate: what backward computes again [none; the run's own].",
)
@click.option(
    "--early-stop",
    is_flag=True,
    help="With --calibrate, --recompute: layers stop before their last multiply, as in torch.utils.checkpoint without reentry.",
)
@click.option("--recompute-ms", type=click.FloatRange(0), default=0.0, help="Forward run again before the gradients.")
@click.option("--hop-us", type=click.FloatRange(0), default=0.0, help="Latency of a message between ranks.")
@click.option(
    "--message-mib", type=click.FloatRange(0), help="Size of a message [with --model: its boundary tensor in 16 bit]."
)
@click.option(
    "--link-gbps", type=click.FloatRange(0, min_open=True), help="Bandwidth of a link, 10⁹ bytes/s [unlimited]."
)
@click.option(
    "--sends",
    type=click.Choice(["async", "blocking", "rendezvous"]),
    default="async",
    show_default=True,
    help="What a message does to its sender.",
)
@click.option(
    "--pairs",
    type=click.Choice(["overlapped", "serial", "serial_late"]),
    default="overlapped",
    show_default=True,
    help="How forward-backward pairs run; PyTorch without an own function: serial_late.",
)
@click.option(
    "--pair-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Time of an overlapped pair ÷ that of its parts.",
)
@click.option("--reduction-ms", type=click.FloatRange(0), default=0.0, help="Exposed gradient reduction of a rank.")
@click.option("--optimizer-ms", type=click.FloatRange(0), default=0.0, help="Optimizer of a rank.")
@click.option("--activation-gib", type=click.FloatRange(0), help="Activations of one microbatch on one rank's share.")
@click.option("--sweep", metavar="WHAT[=LIST]", help="Vary stages, microbatches or chunks: microbatches=8,16,32.")
@click.option(
    "--write-order", metavar="FILE", help="Write the schedule's order as CSV for PyTorch; - is standard output."
)
@click.option("--json", "json_file", metavar="FILE", help="Write the prediction as JSON; - is standard output.")
@click.option("--html", "html_file", metavar="FILE", help="Write the prediction as one offline HTML page.")
def command(**options: object) -> None:
    """Predict pipeline bubble and peak memory of several schedules on one axis, by simulation and by formula."""
    from dataclasses import replace as replaced

    from msgspec.structs import replace

    from reports.page.terminal import WIDE, terminal
    from reports.prediction.page import prediction_page
    from traceanalyzer.cli.planning.measured import calibrated_options
    from traceanalyzer.cli.planning.prices import job_text
    from traceanalyzer.options.job_prices import job_record, price_job
    from traceanalyzer.options.prediction import read_options, results, written_order
    from traceanalyzer.output import write_result
    from traceanalyzer.theory.prediction.record import record, to_json

    calibrated = calibrated_options(options)
    given = read_options(options)
    predicted = results(given)
    if calibrated:
        predicted = replaced(predicted, source=calibrated)
    found = record(predicted)
    priced = None if given.hardware is None else price_job(given, predicted)
    if priced is not None:
        found = replace(found, job=job_record(priced))
    if given.json_file is not None:
        write_result(given.json_file, to_json(found))
    if given.write_order is not None:
        write_result(given.write_order, written_order(given))
    if given.html_file is not None:
        from pathlib import Path

        from reports.prediction import render_prediction

        render_prediction(predicted, found, Path(given.html_file))
    if "-" in (given.json_file, given.write_order):
        return
    say(terminal(prediction_page(predicted), screen_width() or WIDE))
    if priced is not None:
        say("\n" + job_text(priced))
    if given.html_file is not None:
        say(f"page: {given.html_file}")
