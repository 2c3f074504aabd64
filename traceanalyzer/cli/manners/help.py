"""Help of commands: options by subject, names that are nearly right."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import ClassVar

import click

from traceanalyzer.cli.claims import with_claims
from traceanalyzer.cli.options.budget import with_budget
from traceanalyzer.spelling import did_you_mean

OTHER = "Options"
SECTIONS: Mapping[str, frozenset[str]] = {
    "What is read": frozenset(
        {
            "columns",
            "rank_map",
            "ranks",
            "steps",
            "kernel_rules",
            "traces",
            "from_ms",
            "to_ms",
            "cpu",
            "where",
            "chosen",
        }
    ),
    "The job behind the traces": frozenset(
        {
            "job_file",
            "adapter",
            "tokens_per_step",
            "sequence_length",
            "num_devices",
            "dtype",
            "recompute",
            "peak_tflops",
            "flops_per_token",
            "flops_per_step",
        }
    ),
    "When to fail": frozenset({"gate_file", "junit_file", "strict", "timeout", "max_memory", "memory"}),
    "What is written": frozenset(
        {"json_file", "html_file", "out", "output", "redact", "form", "kind", "full", "limit", "sort", "write_order"}
    ),
}
"""Heading to the parameters below it, for commands that read traces; everything else stands under `Options`."""


class Command(click.Command):
    """A command whose help lists its options by subject."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, one list per subject."""
        for heading, parameters in by_subject(self.get_params(ctx)):
            rows = [row for row in (each.get_help_record(ctx) for each in parameters) if row is not None]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def by_subject(parameters: Iterable[click.Parameter]) -> list[tuple[str, list[click.Parameter]]]:
    """Parameters below their headings, in the order of `SECTIONS`; the rest comes last."""
    options: list[click.Parameter] = [each for each in parameters if isinstance(each, click.Option)]
    found = [(heading, [each for each in options if each.name in names]) for heading, names in SECTIONS.items()]
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
