"""Paths of `review.json`: `bubble.measured_share`, `accounting.owners[owner=compute].share`, `stragglers[*].slowdown`.

A name goes into a field, `[2]` and `[-1]` to an element of a list, `[key=value]` to the elements whose field has the value,
`[*]` to all, `["a.b"]` to an entry of a mapping by its key, and `.length` at the end counts. A path that the schema does not
know is refused, so that a slip of the pen never passes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from traceanalyzer.errors import UsageError
from traceanalyzer.review import Review

LENGTH = "length"
_PIECE = re.compile(
    r"""(?P<name>(?:^|\.)[A-Za-z_]\w*)|\[(?:(?P<index>-?\d+)|(?P<all>\*)|"(?P<key>[^"]*)"|(?P<field>\w+)=(?P<value>[^\]]*))\]"""
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path; one of its fields is set."""

    name: str | None = None
    index: int | None = None
    everything: bool = False
    key: str | None = None
    where: tuple[str, str] | None = None

    @property
    def chooses(self) -> bool:
        """Whether it chooses among elements, and so may find none."""
        return self.everything or self.where is not None or self.index is not None


@dataclass(frozen=True, slots=True)
class Found:
    """A value at a path; `place` says which where a path has several."""

    place: str
    value: object
    """None: the field is null."""


def parse_path(text: str) -> tuple[Step, ...]:
    """The steps of a path. Raises `UsageError` if it is none, or the schema has no such field."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        match = _PIECE.match(text, at)
        if match is None:
            raise UsageError(f"'{text}' is not a path of review.json: cannot read '{text[at:]}'", _HINT)
        steps.append(_step(match))
        at = match.end()
    if not steps or steps[0].name is None:
        raise UsageError(f"'{text}' is not a path of review.json", _HINT)
    _check(text, steps)
    return tuple(steps)


_HINT = "write names with dots and choose from lists: accounting.owners[owner=compute].share"


def _step(match: re.Match[str]) -> Step:
    if match["name"] is not None:
        return Step(name=match["name"].lstrip("."))
    if match["index"] is not None:
        return Step(index=int(match["index"]))
    if match["all"] is not None:
        return Step(everything=True)
    return (
        Step(key=match["key"])
        if match["key"] is not None
        else Step(where=(match["field"], match["value"].strip("\"'")))
    )


@functools.cache
def _review_type() -> Any:  # noqa: ANN401 - types of msgspec.inspect
    return msgspec.inspect.type_info(Review)


def _check(text: str, steps: Sequence[Step]) -> None:
    """Follow the path through the types of the review."""
    kind = _review_type()
    for at, step in enumerate(steps):
        plain = _plain(kind)
        if isinstance(plain, msgspec.inspect.ListType):
            if step.name == LENGTH and at == len(steps) - 1:
                return
            if not step.chooses:
                raise UsageError(
                    f"'{text}': there is a list before '{_shown(step)}'", "choose an element: [0], [key=value] or [*]"
                )
            kind = plain.item_type
            if step.where is not None:
                _field(text, _plain(kind), step.where[0])
        elif isinstance(plain, msgspec.inspect.DictType):
            if step.key is None and step.name is None:
                raise UsageError(f"'{text}': there is a mapping before '{_shown(step)}'", 'name its entry: ["key"]')
            kind = plain.value_type
        else:
            if step.name is None:
                raise UsageError(f"'{text}': there is no list before '{_shown(step)}'", _HINT)
            kind = _field(text, plain, step.name)


def _plain(kind: Any) -> Any:  # noqa: ANN401 - types of msgspec.inspect
    """The type without metadata and null."""
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    if isinstance(kind, msgspec.inspect.UnionType):
        others = [_plain(each) for each in kind.types if not isinstance(each, msgspec.inspect.NoneType)]
        return others[0] if len(others) == 1 else kind
    return kind


def _field(text: str, kind: Any, name: str) -> Any:  # noqa: ANN401 - types of msgspec.inspect
    fields = {field.encode_name: field.type for field in getattr(kind, "fields", ())}
    if name not in fields:
        known = ", ".join(fields) if fields else "none: it is a plain value"
        raise UsageError(f"'{text}': review.json has no field '{name}' there", f"its fields there: {known[:400]}")
    return fields[name]


def _shown(step: Step) -> str:
    if step.name is not None:
        return step.name
    return "[…]" if step.index is None else f"[{step.index}]"


def values_at(review: Review, steps: Sequence[Step]) -> list[Found]:
    """Every value at a path; a null on the way is a null there. Empty if a choice finds nothing."""
    found = [Found("", review)]
    for step in steps:
        found = [each for one in found for each in _next(one, step)]
    return found


def _next(found: Found, step: Step) -> list[Found]:
    value, place = found.value, found.place
    if value is None:
        return [found]
    if isinstance(value, list):
        entries = cast("list[object]", value)
        if step.name == LENGTH:
            return [Found(place, len(entries))]
        numbered = list(enumerate(entries))
        if step.index is not None:
            numbered = (
                numbered[step.index :][:1]
                if step.index >= 0
                else numbered[step.index :][: 1 if len(entries) >= -step.index else 0]
            )
        elif step.where is not None:
            field, wanted = step.where
            numbered = [(at, each) for at, each in numbered if _as_text(getattr(each, field, None)) == wanted]
        several = step.everything or (step.where is not None and len(numbered) > 1)
        return [Found(f"{place}[{at}]" if several else place, each) for at, each in numbered]
    if isinstance(value, dict):
        mapping = cast("dict[object, object]", value)
        wanted = step.key if step.key is not None else step.name
        return [Found(place, entry) for key, entry in mapping.items() if str(key) == wanted]
    return [Found(place, getattr(value, step.name or "", None))]


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
