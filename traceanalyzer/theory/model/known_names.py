"""The documentation page of devices and models that are known by name, made from their data files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from traceanalyzer.hardware import DTYPES, devices
from traceanalyzer.model_configs.presets import presets
from traceanalyzer.theory.model.parameters import parameters

_HEAD = """# Devices and models known by name

Names in the options `--device`, `--model` and `--job`; a device of a trace is recognised by the name that its driver gives. A device or
model that is not listed is never guessed: declare `--peak-tflops`, a `config.json`, or `--flops-per-token`.

This page is made from `traceanalyzer/data`:
`python -c 'from traceanalyzer.theory.model.known_names import known_names_page; print(known_names_page(), end="")' > docs/known-names.md`
"""


def known_names_page() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, "## Devices", "", *_devices(), "", "## Models", "", *_models(), ""])


def _devices() -> Iterator[str]:
    yield "Dense peaks in TFLOP/s, without sparsity; memory in GB and GB/s; links: all scale-up links, one direction, in GB/s."
    yield ""
    yield from _table(("device", *DTYPES, "memory", "bandwidth", "links", "16-bit peak", "source"), _device_rows())


def _device_rows() -> Iterator[Sequence[str]]:
    for _, spec in devices():
        peaks = (
            f"{spec.flops_per_second[each] / 1e12:.4g}" if each in spec.flops_per_second else "" for each in DTYPES
        )
        link = "" if spec.link_bytes_per_second is None else f"{spec.link_bytes_per_second / 1e9:.4g}"
        yield (
            spec.name,
            *peaks,
            f"{spec.memory_bytes / 1e9:.4g}",
            f"{spec.memory_bytes_per_second / 1e9:.4g}",
            link,
            spec.confidence,
            spec.source,
        )


def _models() -> Iterator[str]:
    yield from _table(("model", "parameters, 10⁹", "of them active", "source"), _model_rows())


def _model_rows() -> Iterator[Sequence[str]]:
    for name, preset in presets().items():
        counted = parameters(preset.shape)
        yield name, f"{counted.total / 1e9:.4g}", f"{counted.active / 1e9:.4g}", preset.source


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
