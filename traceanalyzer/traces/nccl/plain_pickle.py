"""Values of a pickle that only builds plain values.

A pickle can run code when it is loaded. Only opcodes that build plain values are let through, and no name is looked up.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import cast

MAX_PROTOCOL = 5
_MAX_NODES = 5_000_000
_OPCODES = frozenset(
    [
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "DICT",
        "LIST",
        "SETITEM",
        "SETITEMS",
        "APPEND",
        "APPENDS",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "MEMOIZE",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
        "POP",
        "POP_MARK",
    ]
)


class _PlainUnpickler(pickle.Unpickler):
    """Builds values and nothing else: the second lock behind the allow-list."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"names {module}.{name}")

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError(f"refers to {pid!r}")


def load_plain_pickle(data: bytes) -> object:
    """The value of a pickle that only builds plain values. Raises `UnpicklingError` at the first other opcode."""
    for opcode, _, position in pickletools.genops(data):
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"opcode {opcode.name} at byte {position} is not allowed")
    try:
        return _PlainUnpickler(io.BytesIO(data)).load()
    except (AttributeError, TypeError, IndexError, KeyError) as error:  # an opcode on a value of another kind
        raise pickle.UnpicklingError(f"its opcodes do not fit together: {error}") from None


def check_size(value: object) -> None:
    """Shared references let a small pickle be a huge tree: walk it with a budget. Raises `ValueError` beyond it."""
    waiting, nodes = [value], 0
    while waiting:
        nodes += 1
        if nodes > _MAX_NODES:
            raise ValueError(f"more than {_MAX_NODES} values")
        node = waiting.pop()
        if isinstance(node, dict):
            waiting += cast("dict[object, object]", node).values()
        elif isinstance(node, list | tuple):
            waiting += cast("list[object]", node)
