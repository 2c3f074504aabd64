"""`traceanalyzer collect NODE_FOLDER... --out FOLDER`."""

from __future__ import annotations

from pathlib import Path

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.screen import say


@click.command("collect", cls=Command)
@click.argument("folders", nargs=-1, required=True, metavar="NODE_FOLDER...", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The run's folder: new, or begun by collect."
)
def command(folders: tuple[Path, ...], out: Path) -> None:
    """Copy the folders that the nodes of one run wrote into one run folder.

    Folders of different runs are refused. Files that are there already are not copied again; every copy is read back.
    Plain copying works as well: `analyze` takes the folders side by side.
    """
    from traceanalyzer.traces.collect import collect

    done = collect(folders, out)
    size = f"{done.num_bytes / 1e6:.1f} MB"
    say(f"run {done.job_id}: {done.num_copied} files copied ({size}), {done.num_present} there already", err=True)
    say(out)
