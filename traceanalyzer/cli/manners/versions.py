"""Versions of this package and of those that decide what it prints."""

from __future__ import annotations

import click

from traceanalyzer.cli.screen import say


def version_lines() -> list[str]:
    """One line for this package and one for those that it stands on."""
    import platform

    from traceanalyzer import __version__
    from traceanalyzer.cli.manners.machine import PACKAGES, installed

    others = ", ".join(f"{name} {installed(name) or 'not installed'}" for name in PACKAGES)
    return [f"traceanalyzer {__version__}", f"Python {platform.python_version()}, {others}"]


def print_versions(context: click.Context, _option: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's signature
    """Print the versions and leave."""
    if asked:
        say("\n".join(version_lines()))
        context.exit()
