"""What a job is asked to be: a preset, a file, single settings and options, each over those before it.

A request is plain values; nothing in it is executed, and settings that a job does not have are refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast, get_type_hints

import msgspec

from instrumented_runs.kinds import SETTINGS
from instrumented_runs.presets import PRESETS
from instrumented_runs.settings import RunSettings
from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.regular_file import read_text
from traceanalyzer.spelling import did_you_mean

_MAX_BYTES = 1 << 20
_HINT = 'write JSON, TOML or YAML: kind = "pipeline", and settings such as num_microbatches = 8'
_OF_THE_LAUNCH = {"folder": "--out", "launcher_pid": "--out", "compute_mode": "compute"}
"""Settings that no request has, and what says them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A kind of job and the values of its settings that were asked for."""

    kind: str
    values: dict[str, Any]
    compute: str | None = None
    """`auto`, `real` or `paced`."""


def make_request(name: str | None, config: Path | None, assignments: Iterable[str]) -> Request:
    """The request of a kind or preset, a file, and texts `setting=value`.

    Raises `UsageError`, or `InputError` where the file cannot be read.
    """
    wanted = read_config(config) if config is not None else {}
    chosen = name or _text(wanted.pop("preset", None), "preset") or _text(wanted.get("kind"), "kind") or "pipeline"
    wanted.pop("preset", None)
    if chosen not in SETTINGS and chosen not in PRESETS:
        raise UsageError(f"there is no job '{chosen}'", f"known: {', '.join([*SETTINGS, *PRESETS])}")
    kind, values = PRESETS.get(chosen, (chosen, {}))
    if wanted.pop("kind", kind) != kind:
        raise UsageError(f"{config}: is of another kind than {chosen}", "leave one of them out")
    wanted |= dict(parse_assignment(text) for text in assignments)
    compute = _text(wanted.pop("compute", None), "compute")
    if compute not in (None, "auto", "real", "paced"):
        raise UsageError(f"compute is '{compute}'", "auto, real or paced")
    return Request(kind, dict(values) | typed(kind, wanted), compute)


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a JSON, TOML or YAML file. Raises `InputError`."""
    import yaml  # noqa: PLC0415 - the command line is described without it

    from traceanalyzer.options.settings_text import plain_json, plain_toml, plain_yaml  # noqa: PLC0415

    read = {".toml": plain_toml, ".yaml": plain_yaml, ".yml": plain_yaml}.get(path.suffix, plain_json)
    try:
        found = read(read_text(str(path), _MAX_BYTES))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not the settings of a job: {' '.join(str(error).split())[:300]}", _HINT) from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: not the settings of a job: it is not a mapping", _HINT)
    return {str(key).replace("-", "_"): value for key, value in cast("dict[object, object]", found).items()}


def parse_assignment(text: str) -> tuple[str, Any]:
    """Name and value of `setting=value`; a list is written as JSON. Raises `UsageError`."""
    name, given, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not given or not name:
        raise UsageError(f"--set '{text}' sets nothing", "write --set setting=value")
    if value.lstrip().startswith("["):
        try:
            return name, msgspec.json.decode(value)
        except msgspec.DecodeError:
            raise UsageError(
                f"--set '{text}': the list is not JSON", 'write --set faults=["die:rank=1,step=2"]'
            ) from None
    return name, value.strip()


def typed(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the settings of this kind hold them. Raises `UsageError` naming the setting."""
    hints = _hints(SETTINGS[kind])
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in _OF_THE_LAUNCH:
            raise UsageError(f"'{name}' is not a setting of a job", f"give it with {_OF_THE_LAUNCH[name]}")
        if name not in hints:
            raise UsageError(
                f"a job of kind '{kind}' has no setting '{name}'",
                f"{did_you_mean(name, list(hints))}it has {', '.join(sorted(hints.keys() - _OF_THE_LAUNCH.keys()))}",
            )
        try:
            found[name] = msgspec.convert(value, hints[name], strict=not isinstance(value, str))
        except msgspec.ValidationError as error:
            raise UsageError(f"setting {name} = {value!r}: {error}", "give a value of that kind") from None
    return found


def _hints(settings: type[RunSettings]) -> dict[str, Any]:
    hints = get_type_hints(settings)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings)}


def _text(value: object, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name} is {value!r}", "write a name")
    return value
