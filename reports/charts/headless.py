"""HoloViews without what a page does not need: Panel, which its plotting imports for notebooks, and pandas.

Importing them takes half a second of CPU. A command that only writes a file draws inside `headless()`; a notebook or a server
must not, because there HoloViews shows its elements through Panel.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_PANEL = (
    "panel",
    "panel.config",
    "panel.io",
    "panel.io.document",
    "panel.io.notebook",
    "panel.io.state",
    "panel.models",
    "panel.models.comm_manager",
    "panel.pane",
    "panel.viewable",
    "panel.widgets",
    "panel.widgets.base",
    "panel.widgets.player",
)
"""What HoloViews' plotting imports names from."""


class _StandIn(ModuleType):
    """A module in which every name is a class of its own: enough to import from, and no object is an instance of it."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever is asked for
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


@contextmanager
def headless() -> Generator[None]:
    """Draw without Panel and pandas inside the block, unless Panel or HoloViews' plotting is loaded already."""
    if "holoviews.plotting" in sys.modules or "panel" in sys.modules:
        yield
        return
    for name in _PANEL:
        module = sys.modules[name] = _StandIn(name)
        module.__path__ = []  # a package: modules inside it can be asked for
    try:
        importlib.import_module("holoviews.plotting.bokeh")
        store: Any = importlib.import_module("holoviews").Store
        store.set_current_backend("bokeh")
        _without_pandas()
        yield
    finally:
        for name in _PANEL:
            sys.modules.pop(name, None)


def _without_pandas() -> None:
    """Where pandas was never imported, nothing can be one of its frames: HoloViews need not import it to find out."""
    interface: Any = importlib.import_module("holoviews.core.data.pandas").PandasInterface
    applies = interface.applies.__func__

    def known(cls: Any, candidate: object) -> bool:  # noqa: ANN401 - HoloViews has no types
        return "pandas" in sys.modules and applies(cls, candidate)

    interface.applies = classmethod(known)
