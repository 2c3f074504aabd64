"""What a subject gives to the result.

A subject is a room of `gaps` that sets something measured against theory. Its function returns a subclass of `SubjectPart`:
typed figures (sections of the review), what is withheld with the reason, and tables by the names of the schema. Its
findings are checks of these figures (`gaps.checks`).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from traceanalyzer.review import Withheld


class SubjectPart:
    """Base of every subject's part."""

    __slots__ = ()

    withheld: tuple[Withheld, ...]
    """What is not given, and why."""

    @property
    def sections(self) -> Mapping[str, object]:
        """Fields of `Review` that this subject fills."""
        return {}

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """Tables of the result that this subject makes, by their names in `schema.TABLES`; none unless a part says so."""
        return {}
