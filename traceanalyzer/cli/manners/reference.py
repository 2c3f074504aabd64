"""The page docs/command-line.md, made of the commands' own help.

python -c 'from traceanalyzer.cli.manners.reference import page; print(page(), end="")' > docs/command-line.md
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from traceanalyzer.cli import traceanalyzer as root

_WIDTH = 80
_HEAD = """# Command line

Made of the commands' own help.

Exit statuses: 0 done; 1 a gate or check did not hold, or data was lost under `--strict`; 2 the command or its options make no sense; 3 the
input cannot be used; 4 the output could not be written; 5 a launched job failed; 70 a bug; 130 interrupted. Every error is one line with
what is wrong and one with what to do.

Colour and bold numbers appear on a terminal. `--color always` keeps them in a pipe, `--color never` or the variable `NO_COLOR` leaves them out.

Shell completion: put one line into the shell's start file.

    eval "$(_TRACEANALYZER_COMPLETE=bash_source traceanalyzer)"     # bash
    eval "$(_TRACEANALYZER_COMPLETE=zsh_source traceanalyzer)"      # zsh
    _TRACEANALYZER_COMPLETE=fish_source traceanalyzer | source      # fish
"""


def page() -> str:
    """The page as Markdown."""
    parts = [f"## {' '.join(names)}\n\n{_indented(text)}" for names, text in _helps(root, ("traceanalyzer",), None)]
    return "\n".join([_HEAD, *parts])


def _helps(
    command: click.Command, names: tuple[str, ...], parent: click.Context | None
) -> Iterator[tuple[tuple[str, ...], str]]:
    context = click.Context(
        command,
        info_name=names[-1],
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        **command.context_settings,
    )
    yield names, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None  # noqa: S101 - the group lists what it has
            yield from _helps(found, (*names, name), context)


def _indented(text: str) -> str:
    return "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines())
