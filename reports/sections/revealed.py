"""What a report tells of the job that it was made from, for whoever hands it on."""

from __future__ import annotations

from reports.page.model import Terms
from reports.sections.material import Material
from traceanalyzer.review.words import counted

_SHOWN = 4


def revealed(material: Material) -> Terms:
    """Names in the page and its tables, by class of `--redact`."""
    review = material.review
    ranges = set(_texts(material, "actions", "name")) | set(_texts(material, "collectives", "pg_name"))
    entries = [
        ("Hosts", _some(_texts(material, "ranks", "host"))),
        ("Paths", _some([review.source.path, *sorted({file.file for file in review.files})])),
        ("Kernels", counted(len(_texts(material, "kernels", "name")), "name")),
        ("Ranges and groups", _some(sorted(ranges))),
        ("Metadata of the traces", "as the job wrote it" if _metadata(material) else "none"),
    ]
    entries.append(("To hand it on", "`--redact all` (or a list of classes) writes pseudonyms in place of these names"))
    return Terms(entries=tuple(entries), title="What this page reveals")


def _texts(material: Material, table: str, column: str) -> list[str]:
    if table not in material.tables or column not in material.tables[table].columns:
        return []
    return sorted(str(text) for text in material.tables[table][column].drop_nulls().unique())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "none"


def _metadata(material: Material) -> bool:
    return any(text not in ("", "{}") for text in _texts(material, "ranks", "metadata"))
