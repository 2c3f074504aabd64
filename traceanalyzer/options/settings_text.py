"""Text of settings (JSON, TOML, YAML) to plain values: what JSON can say, of bounded size and depth, and nothing else.

YAML is read as YAML 1.2's core schema: no dates, no base-60 numbers, no tags. Aliases and merge keys are counted as the
text they stand for before anything is built, since a few lines of them can stand for more than any memory holds.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any, cast

import yaml

_MAX_YAML_BYTES = 1 << 18
_MAX_TOML_BYTES = 1 << 20
_MAX_VALUES = 100_000
_MAX_DEPTH = 64
_MAX_INT = 1 << 63
_MAX_DIGITS = 40
_DOTTED = re.compile(rf"^[\s\[]*(?:[\w\"'-]+[ \t]*\.[ \t]*){{{_MAX_DEPTH},}}", re.MULTILINE)
"""A key of more parts than settings are deep; the TOML reader takes time with their square."""


def plain_json(text: str) -> object:
    """The value of JSON text. Raises `ValueError`, `RecursionError`."""
    return _checked(json.loads(text))


def plain_toml(text: str) -> object:
    """The value of TOML text. Raises `ValueError`, `RecursionError`."""
    if len(text) > _MAX_TOML_BYTES:
        raise ValueError(f"TOML longer than {_MAX_TOML_BYTES} bytes")
    if _DOTTED.search(text):
        raise ValueError(f"a key of more than {_MAX_DEPTH} parts")
    return _checked(tomllib.loads(text))


def plain_yaml(text: str) -> object:
    """The value of YAML text. Raises `ValueError`, `RecursionError`, `yaml.YAMLError`."""
    if len(text) > _MAX_YAML_BYTES:
        raise ValueError(f"YAML longer than {_MAX_YAML_BYTES} bytes")
    loader: Any = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _count_nodes(root)
        return _checked(loader.construct_document(root))
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Builds text, numbers, booleans, null, lists and mappings; any other tag is an error."""


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text, 0)


_CORE = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "float", "seq", "map", "str")}
_Loader.yaml_constructors = {tag: build for tag, build in yaml.SafeLoader.yaml_constructors.items() if tag in _CORE} | {
    "tag:yaml.org,2002:int": _whole_number,
    None: cast("Any", yaml.SafeLoader).construct_undefined,
}
_OURS = {
    "tag:yaml.org,2002:int": (re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)$"), "-+0123456789"),
    "tag:yaml.org,2002:float": (
        re.compile(r"^[-+]?(?:(?:[0-9][0-9_]*)?\.[0-9]+|[0-9][0-9_]*\.?)(?:[eE][-+]?[0-9]{1,3})?$|^[-+]?\.(?:inf|Inf|INF)$"),
        "-+0123456789.",
    ),
}  # fmt: skip
_LEFT_OUT = {*_OURS, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in _LEFT_OUT]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, (_pattern, _first) in _OURS.items():
    cast("Any", _Loader).add_implicit_resolver(_tag, _pattern, list(_first))


def _count_nodes(root: Any) -> None:  # noqa: ANN401 - PyYAML's nodes
    """Walk the nodes as the tree they stand for. Raises `ValueError` beyond the budget, and so for one inside itself."""
    waiting, seen = [(root, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES} values: too many aliases, or one that holds itself")
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} deep, or an alias that holds itself")
        if isinstance(node, yaml.MappingNode):
            pairs = cast("list[tuple[Any, Any]]", node.value)
            waiting += [(each, depth + 1) for pair in pairs for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(each, depth + 1) for each in cast("list[Any]", node.value)]


def _checked(value: object) -> object:
    """The value, if JSON can say it. Raises `ValueError` naming the key of what it cannot."""
    waiting: list[tuple[str, object, int]] = [("the document", value, 0)]
    seen = 0
    while waiting:
        name, each, depth = waiting.pop()
        seen += 1
        if seen > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ValueError(f"{name}: more than {_MAX_VALUES} values, or nested more than {_MAX_DEPTH} deep")
        if isinstance(each, dict):
            mapping = cast("dict[object, object]", each)
            waiting += [(str(key)[:80], item, depth + 1) for key, item in mapping.items()]
        elif isinstance(each, list):
            waiting += [(name, item, depth + 1) for item in cast("list[object]", each)]
        elif isinstance(each, int) and not -_MAX_INT <= each < _MAX_INT:
            raise ValueError(f"{name}: a number out of range")
        elif each is not None and not isinstance(each, str | int | float):
            raise ValueError(f"{name}: a {type(each).__name__}; give text or a number")
    return value
