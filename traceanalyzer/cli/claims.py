"""What a command will write, checked before it does minutes of work: writable, no input, and no two results at one place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, cast

import click

FILES = (
    "json_file",
    "gate_json",
    "output",
    "junit_file",
    "html_file",
    "placement",
    "write_order",
    "baseline",
    "export_file",
)
"""Parameters of commands that name a file to write."""
FOLDERS = ("out",)
"""Parameters that name a folder to write."""
OF_RUNS = ("truth",)
"""Written by `run` itself, which holds it against its folder."""
INPUTS = (
    *("paths", "path", "base", "new", "more_bases", "arguments", "traces", "model", "runs", "calibrate", "folders"),
    *(
        "job_file",
        "adapter",
        "config",
        "columns",
        "rank_map",
        "kernel_rules",
        "gate_file",
        "order",
        "orders",
        "placement_file",
    ),
)
"""Parameters that name what is read."""
_OF_A_RUN = {"run.json", "manifest.json", "sha256.json"}
_RECORD_FOLDERS = {"steps", "routing", "events", "flight_recorder", "execution_traces", "tables"}
_HEAD = 256
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?=[^/])")
"""A scheme has two letters or more, a drive has one. A `Path` keeps one of the two slashes."""


def with_claims(command: click.Command) -> click.Command:
    """The command, and every command below it, with its outputs checked before it runs."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            with_claims(each)
    elif command.callback is not None and not hasattr(command.callback, "__wrapped__"):
        command.callback = _checked(command.callback)
    return command


def _checked(work: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(work)
    def checked(*values: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the command takes
        check(click.get_current_context().params)
        return work(*values, **{name: _plain(name, value) for name, value in named.items()})

    return checked


def _plain(name: str, value: Any) -> Any:  # noqa: ANN401 - a value of any parameter
    """`-` for every other name of standard output, which then holds nothing but the result."""
    from traceanalyzer.output import is_standard_output

    return "-" if name in FILES and isinstance(value, str) and is_standard_output(value) else value


def check(params: Mapping[str, Any]) -> None:
    """Check the values of a command's parameters. Raises `UsageError`, `OutputError`."""
    from traceanalyzer.output import check_writable, is_standard_output

    inputs = list(_named(params, INPUTS))
    taken: dict[str, str] = {}
    for name, target in _outputs(params, (*FILES, *FOLDERS)):
        _check_local(name, target)
        standard = is_standard_output(target)
        _check_single(name, target, "-" if standard else os.path.realpath(target), taken)
        if name in FOLDERS:
            _check_folder(target)
        elif not standard:
            _check_no_input(target, inputs)
            check_writable(target)


def _outputs(params: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Targets by parameter; where `--json` is given, `-o -` is the default and nothing is written there."""
    for name in names:
        value = params.get(name)
        if isinstance(value, str | Path) and str(value):
            if name == "output" and str(value) == "-" and params.get("json_file") is not None:
                continue
            yield name, str(value)


def _named(params: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value = params.get(name)
        values = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
        yield from (str(each) for each in values if isinstance(each, str | Path))


def _check_local(name: str, target: str) -> None:
    """Results are written to files of this machine: a URL would become a folder called `s3:`."""
    from traceanalyzer.errors import UsageError

    found = _URL.match(target)
    if found is not None and not os.path.lexists(f"{found[1]}:"):
        url = f"{found[1]}://{target[found.end() :]}"
        raise UsageError(
            f"{_option(name)} {url}: results are written to files of this machine, not to URLs",
            "name a local path, then copy it there with the store's own tool",
        )


def _check_single(name: str, target: str, place: str, taken: dict[str, str]) -> None:
    from traceanalyzer.errors import UsageError

    option = _option(name)
    if place in taken and not _takes_several(target):
        raise UsageError(f"{target}: {taken[place]} and {option} write to one place", "give each its own file")
    taken[place] = option


def _option(name: str) -> str:
    return f"--{name.removesuffix('_file').replace('_', '-')}"


def _takes_several(target: str) -> bool:
    """Whether a device is written to, where nothing is replaced."""
    path = Path(target)
    return path.exists() and not path.is_file() and not path.is_dir()


def _check_folder(target: str) -> None:
    """A folder to write, or the nearest one above it that is there, can be written to."""
    from traceanalyzer.errors import OutputError
    from traceanalyzer.output import check_writable

    place = Path(os.path.abspath(target))  # noqa: PTH100 - links are not followed here
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if place != Path(os.path.abspath(target)):  # noqa: PTH100 - see above
        if not place.is_dir():
            raise OutputError(f"{target}: {place} is not a folder", "choose a folder that can be made")
        check_writable(place / ".of-a-run")


def _check_no_input(target: str, inputs: list[str]) -> None:
    """Refuse to replace what is read: an input itself, or a trace or record in a folder that is one."""
    from traceanalyzer.errors import UsageError

    path = Path(target)
    if not path.is_file():
        return
    real = Path(os.path.realpath(path))
    for each in inputs:
        given = Path(each)
        try:
            same = given.exists() and path.samefile(given)
            inside = given.is_dir() and real.is_relative_to(given.resolve()) and _is_input(path)
        except (OSError, RuntimeError, ValueError):
            continue
        if same or inside:
            raise UsageError(f"{target}: is read by this command and would be overwritten", "name another file")


def _is_input(path: Path) -> bool:
    """Whether a file in a folder that is read is one of those that are read there; results of ours may be replaced."""
    from traceanalyzer.regular_file import open_regular
    from traceanalyzer.traces.input.discovery import may_be_trace

    if path.name in _OF_A_RUN or path.parent.name in _RECORD_FOLDERS:
        return True
    if not may_be_trace(str(path)) and path.suffix not in {"", ".jsonl", ".log", ".pickle", ".pkl", ".gz"}:
        return False
    with open_regular(path) as file:
        head = file.read(_HEAD)
    return b'"schema_version"' not in head
