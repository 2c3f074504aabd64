"""The documentation names what exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from pages import PAGES, ROOT, WRITTEN, commands_of

from traceanalyzer.cli import traceanalyzer as root
from traceanalyzer.cli.manners.reference import page as command_line_page
from traceanalyzer.theory.model.known_names import known_names_page


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"(?<![\w/.])(?:tests|benchmarks|docs)/[\w./-]*\w", page.read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_holds_no_unfinished_merge(page: Path) -> None:
    assert not re.search(r"^(<{7}|>{7}|={7})( |$)", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_promise_of_security_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| .+ \| .* \| (.+) \|$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)[1:]
    assert rows
    for shown_by in rows:
        file, missing = "", []
        for path, test in re.findall(r"`(tests/[\w./]+)?(?:::(\w+))?`", shown_by):
            file = path or file
            if test and f"def {test}(" not in (ROOT / file).read_text():
                missing.append(f"{file}::{test}")
        assert file, shown_by
        assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_between_pages_leads_to_a_heading(page: Path) -> None:
    for name, heading in re.findall(r"\]\(([\w./-]*\.md)?(?:#([\w-]+))?\)", page.read_text()):
        target = page.parent / name if name else page
        assert target.exists(), name
        headings = {
            re.sub(r"[^\w -]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            for line in target.read_text().splitlines()
            if line.startswith("#")
        }
        assert not heading or heading in headings, f"{name}#{heading}"


def test_the_command_line_page_is_the_commands_own_help() -> None:
    assert (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8") == command_line_page()


def test_the_page_of_devices_and_models_is_made_from_their_files() -> None:
    assert (ROOT / "docs" / "known-names.md").read_text(encoding="utf-8") == known_names_page()


def test_every_page_is_in_the_sites_navigation() -> None:
    listed = re.findall(r"^\s+- ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", WRITTEN, ids=[page.name for page in WRITTEN])
def test_every_command_in_a_page_is_understood(page: Path) -> None:
    """Each is parsed by the command line itself: names of commands and options exist, and nothing is missing."""
    for text in commands_of(page):
        words = [word for word in shlex.split(text)[1:] if word not in (">", "|")]
        command: click.Command = root
        context = click.Context(root, info_name="traceanalyzer", resilient_parsing=False)
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(context, words[0])
            assert found is not None, text
            command, words = found, words[1:]
            context = click.Context(command, info_name=command.name, parent=context)
        if words and not isinstance(command, click.Group):
            options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {
                "--help",
                "-h",
            }
            for word in words:
                if word.startswith("-") and word != "-" and not word[1:2].isdigit():
                    assert word.split("=")[0] in options, f"{text}: {word}"
