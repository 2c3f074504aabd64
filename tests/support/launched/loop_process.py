"""One rank of a small gloo loop that is recorded: `python loop_process.py FOLDER NUM_STEPS [MESH] [FAULT]`.

Rank, size and store come from the environment (RANK, WORLD_SIZE, STORE). MESH is `pp=2,dp=1`. FAULT is what happens to which
rank when a step begins: `freeze:1@4` stops the process, `spin:1@4` hangs in the loop, `kill:1@4`, `raise:1@4`, `full:1@4` lets
it write no file of more than 4 kB from then on.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from instrumented_runs.recorder.capture import Window
from instrumented_runs.recorder.recording import Recorder


def endless_wait() -> None:
    while True:
        time.sleep(0.1)


def befall(fault: str, rank: int, step: int) -> None:
    kind, _, where = fault.partition(":")
    if where != f"{rank}@{step}":
        return
    if kind == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "spin":
        endless_wait()
    elif kind == "full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))
    else:
        raise ValueError("planted")


def main(folder: str, num_steps: str, mesh: str = "", fault: str = "") -> None:
    torch.set_num_threads(1)
    rank, num_ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(
        "gloo",
        init_method=f"file://{os.environ['STORE']}",
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=float(os.environ.get("LOOP_TIMEOUT_S", "120"))),
    )
    sizes = {name: int(size) for name, size in (part.split("=") for part in mesh.split(",") if part)}
    kept = dist.init_device_mesh("cpu", tuple(sizes.values()), mesh_dim_names=tuple(sizes)) if sizes else None
    window = Window(wait=1, warmup=1, active=int(num_steps) - 2)
    with Recorder(folder, window=window) as recorder:
        for step in range(int(num_steps)):
            befall(fault, rank, step)
            for _ in range(5):
                dist.all_reduce(torch.ones(8))
            time.sleep(0.02)
            recorder.step()
            if rank == 0:
                sys.stdout.write(f"step {step}\n")
                sys.stdout.flush()
    del kept  # a loop holds its mesh while it runs
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
