"""A dense transformer on one device, computing for real: the job whose MFU means something on any machine."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn

from instrumented_runs.descriptions import layout_of, shape_of
from instrumented_runs.jobs.token_task import batch
from instrumented_runs.jobs.training_loop import run_steps
from instrumented_runs.jobs.transformer import stage, token_loss
from instrumented_runs.pacing.faults import Faults
from instrumented_runs.pacing.gemm_peak import measure_peaks
from instrumented_runs.recorder import host_load
from instrumented_runs.recorder.recording import Recorder
from instrumented_runs.recorder.run_file import device_name
from instrumented_runs.settings import DenseSettings
from instrumented_runs.worker import announce, device
from traceanalyzer.hardware import Hardware
from traceanalyzer.job import Job


def run(settings: DenseSettings) -> None:
    """Train; every rank of the job calls this. More than one rank is plain data parallelism."""
    rank = dist.get_rank()
    pin(rank)
    model = stage(shape_of(settings), settings.sequence_length, settings.seed, 0, 1).to(device(), dtype())
    announce("measuring the matrix-multiply peak of this device")
    hardware = measure_hardware(settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def train_step(_: Recorder, step: int) -> float | None:
        size = settings.num_sequences
        length, vocab_size = settings.sequence_length, settings.vocab_size
        inputs, targets = batch(settings.seed, step, settings.num_ranks * size, length, vocab_size)
        mine = slice(rank * size, (rank + 1) * size)
        loss = token_loss(model(inputs[mine].to(device())), targets[mine].to(device()))
        loss.backward()
        mean_loss = average(model, loss.detach(), settings.num_ranks)
        optimizer.step()
        optimizer.zero_grad()
        return mean_loss if rank == 0 else None

    run_steps(settings, describe(settings, hardware), Faults(settings.faults, rank, settings.seed), train_step)


def pin(rank: int) -> None:
    """Keep this process on one core, so that its peak and its steps are measured on the same one."""
    cores = host_load.cores()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores[-1 - rank % len(cores)]})


def dtype() -> torch.dtype:
    """The number format computed in."""
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def measure_hardware(settings: DenseSettings) -> Hardware:
    """The device with its peak over the model's dominant shapes and a large square."""
    tokens = settings.num_sequences * settings.sequence_length
    hidden, inner = settings.hidden_size, 4 * settings.hidden_size
    shapes = [(tokens, hidden, 3 * hidden), (tokens, hidden, inner), (tokens, inner, hidden), (settings.gemm_side,) * 3]
    peaks = measure_peaks(shapes, dtype(), device())
    return Hardware(device=device_name(), num_devices=settings.num_ranks, measured_peak=peaks[0], measured_peaks=peaks)


def average(model: nn.Module, loss: torch.Tensor, num_ranks: int) -> float:
    """Replace the gradients by their mean over ranks; the mean loss."""
    if num_ranks > 1:
        for tensor in [loss, *(p.grad for p in model.parameters() if p.grad is not None)]:
            dist.all_reduce(tensor)
            tensor.div_(num_ranks)
    return loss.item()


def describe(settings: DenseSettings, hardware: Hardware) -> Job:
    """What `run.json` says of the job."""
    return Job(
        kind="dense",
        layout=layout_of(settings),
        model=shape_of(settings),
        compute_mode="real",
        backend=dist.get_backend(),
        dtype=str(dtype()).removeprefix("torch."),
        tokens_per_step=settings.num_ranks * settings.num_sequences * settings.sequence_length,
        sequence_length=settings.sequence_length,
        hardware=hardware,
        seed=settings.seed,
    )
