"""NCCL Inspector, where its plugin is installed: NCCL then writes time and bytes of every operation itself.

NCCL reads its environment when the first communicator is made, so in a loop of one's own this comes before
`init_process_group`:

    os.environ.update(inspector_environment(Path("runs/mine"), os.environ))
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

PLUGIN = "libnccl-profiler-inspector.so"
DUMP_FOLDER = "inspector"
"""In the run folder."""


def inspector_environment(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that switch NCCL Inspector on; empty if its plugin is not found or another plugin is chosen."""
    plugin = environment.get("NCCL_PROFILER_PLUGIN") or next(map(str, _installed(environment)), None)
    if plugin is None or "inspector" not in Path(plugin).name:
        return {}
    return {
        "NCCL_PROFILER_PLUGIN": plugin,
        "NCCL_INSPECTOR_ENABLE": "1",
        "NCCL_INSPECTOR_DUMP_DIR": str(folder / DUMP_FOLDER),
        "NCCL_INSPECTOR_DUMP_THREAD_INTERVAL_MICROSECONDS": "500",
        "NCCL_INSPECTOR_DUMP_VERBOSE": "1",  # adds start and stop
        "NCCL_INSPECTOR_DUMP_MIN_SIZE_BYTES": "0",  # by default small exchanges are left out
    }


def inspector_note(environment: Mapping[str, str], backend: str) -> str:
    """Whether NCCL Inspector records this process, in words."""
    if backend != "nccl":
        return f"not recorded: the backend is {backend}"
    if environment.get("NCCL_INSPECTOR_ENABLE") == "1":
        return f"recorded by {environment.get('NCCL_PROFILER_PLUGIN', 'NCCL')}"
    return f"not recorded: no {PLUGIN} was found or switched on"


def _installed(environment: Mapping[str, str]) -> Iterator[Path]:
    folders = [Path(text) for text in environment.get("LD_LIBRARY_PATH", "").split(":") if text]
    try:
        package = importlib.util.find_spec("nvidia.nccl")
    except ModuleNotFoundError:  # no package of NVIDIA's at all
        package = None
    folders += [Path(place) / "lib" for place in (package.submodule_search_locations or [] if package else [])]
    yield from (folder / PLUGIN for folder in folders if (folder / PLUGIN).is_file())
