"""A file of rules for kernels' names."""

from __future__ import annotations

from pathlib import Path

from traceanalyzer.errors import InputError
from traceanalyzer.regular_file import read_text
from traceanalyzer.tables.computation.taxonomy import KernelRule, parse_kernel_rules

_MAX_BYTES = 2**20


def load_kernel_rules(file: str | None) -> tuple[KernelRule, ...]:
    """The rules in a file, none without one. Raises `InputError` if it cannot be read or holds a row that is not a rule."""
    if file is None:
        return ()
    path = Path(file)
    try:
        text = read_text(path, _MAX_BYTES)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: {getattr(error, 'strerror', None) or error}", "give a CSV of kernel rules") from None
    return parse_kernel_rules(text.splitlines(), file)
