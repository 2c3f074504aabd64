"""A file of rules for kernels' names."""

from __future__ import annotations

from pathlib import Path

from traceanalyzer.errors import InputError
from traceanalyzer.tables.computation.taxonomy import KernelRule, parse_kernel_rules

_MAX_BYTES = 2**20


def load_kernel_rules(file: str | None) -> tuple[KernelRule, ...]:
    """The rules in a file, none without one. Raises `InputError` where it cannot be read or holds a row that is no rule."""
    if file is None:
        return ()
    path = Path(file)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{file}: is larger than {_MAX_BYTES} bytes", "give a CSV of kernel rules")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: {error}", "give a CSV of kernel rules") from None
    return parse_kernel_rules(text.splitlines(), file)
