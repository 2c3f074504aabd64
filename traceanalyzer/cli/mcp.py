"""`traceanalyzer mcp FOLDER...`."""

from __future__ import annotations

import click

from traceanalyzer.cli.manners.help import Command


@click.command("mcp", cls=Command)
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...")
def command(folders: tuple[str, ...]) -> None:
    """Answer an agent's questions about the runs in FOLDER..., by the Model Context Protocol on standard input and output.

    Nothing is written, and nothing outside the folders is read: paths with .., links that lead outside and URLs are
    refused.
    """
    from traceanalyzer.errors import UsageError

    try:
        import mcp  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise UsageError("the package mcp is not installed", "pip install 'traceanalyzer-llm[mcp]'") from None
    from traceanalyzer.agents.folders import open_folders
    from traceanalyzer.agents.server import serve

    serve(open_folders(folders))
