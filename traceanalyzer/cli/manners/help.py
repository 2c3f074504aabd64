"""Help of commands: options by subject, names that are nearly right."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

import click

from traceanalyzer.cli.claims import with_claims
from traceanalyzer.cli.manners.subjects import OTHER, Sections, sections_of
from traceanalyzer.cli.options.budget import with_budget
from traceanalyzer.spelling import did_you_mean

_TYPES = (("INTEGER RANGE", "N"), ("FLOAT RANGE", "NUMBER"), ("INTEGER", "N"), ("FLOAT", "NUMBER"))
_OBVIOUS = re.compile(r"\s*\[(x>=?[01])\]|; x>=?[01](?=[];])|(?<=\[)x>=?[01]; ")


class Command(click.Command):
    """A command whose help lists its options by subject."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, one list per subject."""
        for heading, parameters in by_subject(self.get_params(ctx), sections_of(self.name)):
            rows = [_plain(*row) for row in (each.get_help_record(ctx) for each in parameters) if row is not None]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def _plain(names: str, text: str) -> tuple[str, str]:
    """An option's line of help: a number is `N` or `NUMBER`, and what every count obeys is not repeated."""
    for kind, shown in _TYPES:
        names = names.replace(f" {kind}", f" {shown}")
    return names, _OBVIOUS.sub("", text)


def by_subject(parameters: Iterable[click.Parameter], sections: Sections) -> list[tuple[str, list[click.Parameter]]]:
    """Options below their headings, in the order of `sections`; the rest comes last."""
    options: list[click.Parameter] = [each for each in parameters if isinstance(each, click.Option)]
    found = [(heading, [each for each in options if each.name in names]) for heading, names in sections.items()]
    placed = {each.name for _, each_list in found for each in each_list}
    return [*found, (OTHER, [each for each in options if each.name not in placed])]


class Commands(click.Group):
    """A group that knows its commands' names and help without importing them."""

    subjects: ClassVar[Mapping[str, Mapping[str, tuple[str, str]]]] = {}
    """Subject to commands: name to (module with a click command called `command`, one-line help)."""

    @property
    def _all(self) -> dict[str, tuple[str, str]]:
        return {name: entry for entries in self.subjects.values() for name, entry in entries.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names, as declared."""
        return list(self._all)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the one command that was asked for."""
        if cmd_name not in self._all:
            return None
        command: click.Command = importlib.import_module(self._all[cmd_name][0]).command
        return with_budget(with_claims(command))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. Raises `click.UsageError` with the names that are nearly right."""
        if args and args[0] not in self._all and not args[0].startswith("-"):
            near = did_you_mean(args[0], list(self._all)).strip()
            raise click.UsageError(f"there is no command '{args[0]}'{near and f'; {near}'}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands by subject."""
        width = max(map(len, self._all))
        for subject, entries in self.subjects.items():
            with formatter.section(subject):
                formatter.write_dl([(f"{name:<{width}}", text) for name, (_, text) in entries.items()])
