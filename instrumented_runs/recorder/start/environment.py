"""What a launcher says of this process in its environment: torchrun, Slurm's srun, MPI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """None if nothing says so."""

    launcher: str
    """`torchrun`, `srun`, `mpirun`, `environment` (RANK and WORLD_SIZE alone) or `none`."""
    rank: int = 0
    num_ranks: int = 1
    local_rank: int | None = None
    ranks_per_node: int | None = None
    node: int | None = None
    run: str | None = None
    """Text that is equal on all ranks of this attempt and on no other, as far as the launcher gives one."""
    attempt: int = 0
    """Earlier attempts of the same run, that the launcher restarted."""


def surroundings(environ: Mapping[str, str]) -> Surroundings:
    """What the environment says. Text that is not a number says nothing."""
    attempt = (_number(environ, "TORCHELASTIC_RESTART_COUNT") or 0) + (_number(environ, "SLURM_RESTART_COUNT") or 0)
    rank, num_ranks = _number(environ, "RANK"), _number(environ, "WORLD_SIZE")
    elastic = "TORCHELASTIC_RUN_ID" in environ or "TORCHELASTIC_RESTART_COUNT" in environ
    if num_ranks is not None and (rank is not None or num_ranks == 1):
        return Surroundings(
            launcher="torchrun" if elastic else "environment",
            rank=rank or 0,
            num_ranks=max(num_ranks, 1),
            local_rank=_first(environ, "LOCAL_RANK", "SLURM_LOCALID"),
            ranks_per_node=_first(environ, "LOCAL_WORLD_SIZE"),
            node=_first(environ, "GROUP_RANK", "NODE_RANK", "SLURM_NODEID"),
            run=_run(environ, attempt),
            attempt=attempt,
        )
    num_tasks = srun_tasks(environ)
    if num_tasks > 1:
        return Surroundings(
            launcher="srun",
            rank=_number(environ, "SLURM_PROCID") or 0,
            num_ranks=num_tasks,
            local_rank=_number(environ, "SLURM_LOCALID"),
            node=_number(environ, "SLURM_NODEID"),
            run=_run(environ, attempt),
            attempt=attempt,
        )
    rank, num_ranks = _number(environ, "OMPI_COMM_WORLD_RANK"), _number(environ, "OMPI_COMM_WORLD_SIZE")
    if rank is not None and num_ranks:
        local = _number(environ, "OMPI_COMM_WORLD_LOCAL_RANK")
        return Surroundings(
            launcher="mpirun", rank=rank, num_ranks=num_ranks, local_rank=local, run=_run(environ, attempt)
        )
    return Surroundings(launcher="none", attempt=attempt)


def srun_tasks(environ: Mapping[str, str]) -> int:
    """Copies of this process that srun started; 1 outside of srun.

    A batch script sees the number of tasks of its allocation too, but is not a step of srun: it has no step's id, and its
    task is 0.
    """
    place = _number(environ, "SLURM_PROCID")
    num_tasks = _first(environ, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
    in_step = "SLURM_STEP_ID" in environ or "SLURM_STEPID" in environ or bool(place)
    return num_tasks if place is not None and num_tasks and in_step else 1


def _run(environ: Mapping[str, str], attempt: int) -> str | None:
    """What tells this run from others; torchrun's own id is `none` where the user gave none."""
    parts = [
        value
        for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID", "MASTER_ADDR", "MASTER_PORT")
        if (value := environ.get(name, "")) and not (name == "TORCHELASTIC_RUN_ID" and value == "none")
    ]
    return "/".join([*parts, str(attempt)]) if parts else None


def _first(environ: Mapping[str, str], *names: str) -> int | None:
    return next((found for name in names if (found := _number(environ, name)) is not None), None)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
