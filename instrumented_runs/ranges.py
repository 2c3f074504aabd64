"""Profiler ranges of any name, and what a record of routing may say besides."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, TypedDict
from urllib.parse import quote

from torch.profiler import record_function


def span(name: str) -> AbstractContextManager[Any]:
    """A profiler range of any name.

    Torch's exporter breaks the file on a quote and renames everything with a letter outside ASCII to `unknown`; such
    characters are percent-encoded, which `urllib.parse.unquote` undoes.
    """
    return record_function(quote(name, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~"))


class RoutingMore(TypedDict, total=False):
    """What a routing record may say besides."""

    dropped_to_expert: tuple[int, ...]
    expert_ranks: tuple[int, ...]
    filling_rows: int
    aligned_rows: int
