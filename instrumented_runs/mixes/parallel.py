"""Spreads a stage over its ranks by torch's own parts: tensor parallelism with sequence parallelism, DDP, FSDP2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from instrumented_runs.mixes.decoder import Layer
from instrumented_runs.mixes.settings import MixSettings


def cut_tensors(stage: nn.Sequential, mesh: DeviceMesh) -> None:
    """Cut the matrices of every layer; between them each rank keeps its part of the tokens."""
    gathered = PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),))
    plan = {
        "attention_norm": SequenceParallel(use_local_output=True),
        "attention": gathered,
        "attention.query": ColwiseParallel(),
        "attention.key": ColwiseParallel(),
        "attention.value": ColwiseParallel(),
        "attention.output": RowwiseParallel(output_layouts=Shard(1)),
        "mlp_norm": SequenceParallel(use_local_output=True),
        "mlp": gathered,
        "mlp.gate": ColwiseParallel(),
        "mlp.up": ColwiseParallel(),
        "mlp.down": RowwiseParallel(output_layouts=Shard(1)),
    }
    for part in stage:
        if isinstance(part, Layer):
            parallelize_module(part, mesh, plan)


def replicate(stage: nn.Sequential, settings: MixSettings, mesh: DeviceMesh) -> nn.Module:
    """The stage over its replicas: DDP, or FSDP2 with one unit per layer."""
    if settings.zero == 0:
        # several forwards come before the first backward of a pipeline, which torch's rebuilding of buckets does not stand
        in_pipeline = settings.pp > 1
        return DistributedDataParallel(stage, process_group=mesh.get_group(), find_unused_parameters=in_pipeline)
    keeps = settings.zero < 3
    for part in stage:
        fully_shard(part, mesh=mesh, reshard_after_forward=not keeps)
    return cast("nn.Module", fully_shard(stage, mesh=mesh, reshard_after_forward=not keeps))


@contextmanager
def microbatch(model: nn.Module, settings: MixSettings, *, is_last: bool) -> Iterator[None]:
    """What replicas do in one microbatch of a step: when gradients are reduced, and when weights are let go."""
    if isinstance(model, DistributedDataParallel) and not is_last:
        with model.no_sync():
            yield
        return
    if isinstance(model, FSDPModule):
        once = settings.reduce_once or settings.zero == 1
        model.set_requires_gradient_sync(is_last or not once)
        if settings.zero < 3:
            model.set_reshard_after_backward(is_last)
    yield


def sum_over_tensor_ranks(stage: nn.Module, mesh: DeviceMesh) -> None:
    """Add up what the ranks of a cut stage, each with its tokens, found for weights that all of them hold whole."""
    whole = [p.grad for p in stage.parameters() if p.grad is not None and not isinstance(p, DTensor)]
    if not whole:
        return
    flat = torch.cat([gradient.flatten() for gradient in whole])
    dist.all_reduce(flat, group=mesh.get_group())
    for gradient, total in zip(whole, flat.split([g.numel() for g in whole]), strict=True):
        gradient.copy_(total.view_as(gradient))
