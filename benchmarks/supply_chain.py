"""What the package installs: `constraints-hashed.txt` from a report of pip, and the licences of what is installed.

    pip install --dry-run --ignore-installed -c constraints.txt --report report.json .
    python benchmarks/supply_chain.py report.json

Writes `constraints-hashed.txt` and `docs/licences.md` beside each other in the repository.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """# The packages that traceanalyzer needs to run, each with its version and the SHA-256 of its wheel, as built for
# CPython 3.11 on Linux x86_64 (manylinux 2.28). Written by benchmarks/supply_chain.py.
#   pip install --require-hashes -r constraints-hashed.txt && pip install --no-deps traceanalyzer
"""


def licence(name: str) -> str:
    """What a package says of its licence: its expression, else the classifiers, else the first line of the text."""
    try:
        about = metadata(name)
    except PackageNotFoundError:
        return "not installed here"
    classified = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    stated = (about.get("License") or "").strip().splitlines()
    return about.get("License-Expression") or ", ".join(classified) or (stated[0][:60] if stated else "not stated")


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    packages = sorted(
        (
            (
                each["metadata"]["name"],
                each["metadata"]["version"],
                each["download_info"]["archive_info"]["hashes"]["sha256"],
            )
            for each in report["install"]
            if "archive_info" in each["download_info"]
        ),
        key=lambda row: row[0].lower(),
    )
    lines = [f"{name}=={version} --hash=sha256:{digest}" for name, version, digest in packages]
    (ROOT / "constraints-hashed.txt").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    rows = [f"| {name} | {version} | {licence(name)} |" for name, version, _ in packages]
    head = "# Licences\n\nEverything that `pip install` of this package brings, with the licence that each states.\n\n"
    table = "| package | version | licence |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    (ROOT / "docs" / "licences.md").write_text(head + table, encoding="utf-8")
    print(f"{len(packages)} packages")


if __name__ == "__main__":
    main()
