"""When compiled decoding is worth having: loading it costs half a second, compiling it the first time about ten.

So it is loaded once this process has decoded as much without it as loading costs, and compiled (on a machine where no
machine code is kept yet) only for inputs that repay that too. Without numba the exact decoder does everything.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traceanalyzer.traces.decoding.compiled.frames import FastDecoder

_WORTH_LOADING = 24 << 20
_WORTH_COMPILING = 256 << 20
_num_bytes = 0
_module: Any = None
_useless = False


def prepare() -> bool:
    """Load compiled decoding now, compiling it if need be; whether it can be used here."""
    global _module, _useless  # noqa: PLW0603 - one process has one compiled decoder
    if _module is None and not _useless:
        try:
            module = importlib.import_module("traceanalyzer.traces.decoding.compiled.frames")
            module.FastDecoder().decode(b'{"ph":"X"}]', 0, 11)
        except Exception:  # noqa: BLE001 - numba missing, too old for NumPy, without a place for its cache: go without
            _useless = True
        else:
            _module = module
    return _module is not None


def fast_decoder(num_bytes: int) -> FastDecoder | None:
    """A decoder for one file if compiled decoding is worth it, now that `num_bytes` more were decoded without it."""
    global _num_bytes, _useless  # noqa: PLW0603 - the whole process repays the loading
    if _module is None and not _useless:
        _num_bytes += num_bytes
        if _num_bytes < _WORTH_LOADING:
            return None
        try:
            compiled = _is_compiled()
        except Exception:  # noqa: BLE001 - as above
            _useless = True
            return None
        if not compiled and _num_bytes < _WORTH_COMPILING:
            return None
        prepare()
    return None if _module is None else _module.FastDecoder()


def _is_compiled() -> bool:
    """Whether machine code is kept from an earlier run."""
    scan: Any = importlib.import_module("traceanalyzer.traces.decoding.compiled.events")
    function, kept = scan.scan_events.py_func, Path(scan.scan_events.stats.cache_path)
    module = function.__module__.rpartition(".")[2]  # numba names its files by module and function
    return any(kept.glob(f"{module}.*{function.__name__}-*.nbi"))
