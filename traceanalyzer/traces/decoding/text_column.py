"""Text that lies one after another in memory as a column, without a Python object for each piece.

Uses the Arrow C data interface (https://arrow.apache.org/docs/format/CDataInterface.html), the public way into Polars
for memory that somebody else filled.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl

_RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Pointers = ctypes.c_void_p * 3


class _Schema(ctypes.Structure):
    _fields_: ClassVar = [
        ("format", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("metadata", ctypes.c_char_p),
        ("flags", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", _RELEASE),
        ("private_data", ctypes.c_void_p),
    ]


class _Array(ctypes.Structure):
    _fields_: ClassVar = [
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.c_void_p),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", _RELEASE),
        ("private_data", ctypes.c_void_p),
    ]


_lent: dict[int, tuple[Any, ...]] = {}
"""Memory that a consumer still uses, by the number in `private_data`."""
_numbers = itertools.count(1)


@_RELEASE
def _release_schema(address: int) -> None:
    ctypes.cast(address, ctypes.POINTER(_Schema)).contents.release = _RELEASE()


@_RELEASE
def _release_array(address: int) -> None:
    array = ctypes.cast(address, ctypes.POINTER(_Array)).contents
    array.release = _RELEASE()
    _lent.pop(array.private_data or 0, None)


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class _Texts:
    """Offers one column to whoever imports Arrow arrays, once."""

    __slots__ = ("_array", "_schema")

    def __init__(self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        number = next(_numbers)
        buffers = _Pointers(None, offsets.ctypes.data, data.ctypes.data)
        self._schema = _Schema(b"U", b"", None, 2, 0, None, None, _release_schema, None)
        self._array = _Array(
            len(offsets) - 1, 0, 0, 3, 0, ctypes.addressof(buffers), None, None, _release_array, number
        )
        _lent[number] = (data, offsets, buffers)

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """The column as capsules; whoever takes them moves the structures out and releases the memory."""
        return (
            _new_capsule(ctypes.addressof(self._schema), b"arrow_schema", None),
            _new_capsule(ctypes.addressof(self._array), b"arrow_array", None),
        )


def text_column(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> pl.Series:
    """A `pl.String` column of the pieces `data[offsets[i]:offsets[i + 1]]`, which must be valid UTF-8.

    The column keeps both arrays; they must not be changed afterwards.
    """
    return pl.Series(_Texts(data, offsets), dtype=pl.String)
