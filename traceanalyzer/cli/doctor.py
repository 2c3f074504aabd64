"""`traceanalyzer doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.screen import say

if TYPE_CHECKING:
    from traceanalyzer.cli.manners.machine import Machine


@click.command("doctor", cls=Command)
@click.option("--json", "json_file", metavar="FILE", help="Write it as JSON; - is standard output.")
def command(json_file: str | None) -> None:
    """Show what is installed and what this machine allows. Put it into a bug report; it names no host, user or path."""
    from msgspec import convert

    from traceanalyzer.cli.manners.machine import machine
    from traceanalyzer.cli.records import DoctorRecord, written
    from traceanalyzer.output import write_result

    found = machine()
    if json_file is not None:
        write_result(json_file, written(convert(found, DoctorRecord, from_attributes=True)))
    if json_file != "-":
        say("\n".join(_lines(found)))


def _lines(found: Machine) -> list[str]:
    packages = [f"  {name:<12}  {version or 'not installed'}" for name, version in found.packages.items()]
    memory = "unknown" if found.memory_bytes is None else f"{found.memory_bytes / 2**30:.1f} GiB"
    facts = {
        "system": found.system,
        "cores": f"{found.num_cores} usable, {memory} of memory",
        "clock": f"{found.clock}, resolution {found.clock_resolution_ns:,.0f} ns",
        "decoder": "compiled" if found.compiled_decoder else "exact only (numba is not usable: reading takes longer)",
        "GPUs": ", ".join(found.devices) or "none found",
        "NCCL": found.nccl or "not available",
        "GPU profiler": found.profiler_permission,
        "browser": found.browser or "none found (reports are read elsewhere)",
    }
    return [
        f"traceanalyzer {found.version}, Python {found.python}",
        *(f"  {name:<12}  {text}" for name, text in facts.items()),
        "packages",
        *packages,
    ]
