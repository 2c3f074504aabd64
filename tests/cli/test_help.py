"""Help: every option of a long list stands under a heading that exists, and numbers are shown as a reader writes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from traceanalyzer.cli import COMMANDS, main
from traceanalyzer.cli import traceanalyzer as root
from traceanalyzer.cli.manners import subjects
from traceanalyzer.spelling import names_hint

CONTEXT = click.Context(root, info_name="traceanalyzer", **root.context_settings)


def leaves(command: click.Command, names: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return [(names, command)]
    below = [(name, command.get_command(CONTEXT, name)) for name in command.list_commands(CONTEXT)]
    return [leaf for name, found in below if found is not None for leaf in leaves(found, (*names, name))]


LEAVES = dict(leaves(root, ()))


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_no_list_of_options_is_longer_than_a_screen(names: tuple[str, ...]) -> None:
    command = LEAVES[names]
    text = command.get_help(click.Context(command, parent=CONTEXT, info_name=names[-1], terminal_width=80))
    sections = text.split("\n\n")
    assert max(section.count("\n  -") for section in sections) <= 15
    assert "RANGE" not in text
    assert "[x>=1]" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", ["predict", "run", "plan job", "plan experts", "analyze"])
def test_every_name_under_a_heading_is_an_option_of_some_command(command: str) -> None:
    known = {option.name for each in LEAVES.values() for option in each.params}
    sections = subjects.sections_of(command.rsplit(maxsplit=1)[-1])
    assert sorted(name for names in sections.values() for name in names if name not in known) == []


def test_every_command_is_listed_with_one_line() -> None:
    text = root.get_help(CONTEXT)
    assert all(f"\n  {name} " in text for name in COMMANDS)


def test_a_reader_that_closes_standard_error_does_not_change_the_status() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "traceanalyzer", "analyze"]  # prints its whole help on standard error
    with os.fdopen(write, "wb") as closed:
        assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=closed, check=False).returncode == 2


def test_a_path_that_is_nearly_right_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "traces-monday").mkdir()
    assert main(["analyze", str(tmp_path / "traces-mondy")]) == 3
    assert capsys.readouterr().err.splitlines()[1] == "  did you mean traces-monday?"
    assert main(["analyze", str(tmp_path / "elsewhere")]) == 3
    assert "give a trace file" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "hint"), [("1F1", "did you mean 1F1B"), ("zzz", "known: 1F1B, GPipe")])
def test_near_names_come_alone_and_all_names_if_none_is_near(name: str, hint: str) -> None:
    assert names_hint(name, ["1F1B", "GPipe"], "known").startswith(hint)
    assert ("GPipe" in names_hint(name, ["1F1B", "GPipe"], "known")) == (name == "zzz")
