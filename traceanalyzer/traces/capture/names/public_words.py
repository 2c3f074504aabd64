"""Words that rules of this program look for in names: of public libraries, and the same in every job."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

_PARTS = ("traces", "tables", "measurements", "data/kernels.csv", "job.py", "group_names.py")
_MORE = [
    "aten",
    "c10d",
    "c10",
    "cuda",
    "hip",
    "triton",
    "torch",
    "python",
    "profiler",
    "kernel",
    "stream",
    "thread",
    "process",
    "false",
    "true",
    "null",
    "none",
    "float",
    "half",
    "int",
    "long",
    "double",
    "bool",
    "tensor",
    "scalar",
    "string",
    "device",
    "dims",
    "type",
    "types",
    "strides",
    "rank",
    "world",
    "size",
    "name",
    "args",
    "traces",
    "json",
    "self",
    "local",
]
"""Words of torch that no rule names."""
_RUN = re.compile(r"[^\W\d_]+")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")
_ESCAPE = re.compile(r"\\.")
_OPTIONAL = re.compile(r"[_\-.\s]\?|\[[_\-.\s]*\]\?")


@functools.cache
def public_words() -> frozenset[str]:
    """All of them in small letters: read from the rules and patterns themselves, so that a new one needs no list."""
    root = resources.files("traceanalyzer")
    texts = [text for part in _PARTS for file in _files(root.joinpath(part)) for text in _constants(file)]
    found = {word.lower() for word in _MORE}
    for text in texts:
        plain = _ESCAPE.sub(" ", text)
        for form in (plain, _OPTIONAL.sub("", plain)):
            for run in _RUN.findall(form):
                found |= {run.lower(), *(piece.lower() for piece in pieces(run))}
    return frozenset(found)


def pieces(run: str) -> list[str]:
    """The words of letters written together: `AllReduce` is `All` and `Reduce`."""
    return _PIECE.findall(run)


def _files(place: Traversable) -> Iterator[Traversable]:
    if place.is_file():
        yield place
        return
    for entry in place.iterdir():
        if entry.is_dir() or entry.name.endswith(".py"):
            yield from _files(entry)


def _constants(file: Traversable) -> Iterator[str]:
    """Texts in a file but what only people read."""
    content = file.read_text("utf-8")
    if not file.name.endswith(".py"):
        yield from (line for line in content.splitlines() if not line.startswith("#"))
        return
    tree = ast.parse(content)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
