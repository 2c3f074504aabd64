"""Pipeline messages between ranks that share a GPU: through buffers on the host.

NCCL refuses two ranks of a communicator on one GPU. Gloo takes collectives of device tensors and stages them itself, but
sends and receives memory of the host only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d


class Backend(NamedTuple):
    """How ranks exchange tensors."""

    name: str
    """As torch calls it."""
    transport: str
    """In words."""


def choose_backend(num_local_ranks: int) -> Backend:
    """The backend for this host's ranks, and how they communicate, in words."""
    if not torch.cuda.is_available():
        return Backend("gloo", "tensors of the host")
    num_devices = torch.cuda.device_count()
    if num_local_ranks > num_devices:
        return Backend("gloo", f"staged through host buffers: {num_local_ranks} ranks share {num_devices} GPU(s)")
    if not dist.is_nccl_available():
        return Backend("gloo", "staged through host buffers: this torch has no NCCL")
    return Backend("nccl", "tensors of the device")


class _Received:
    """A receive into a host buffer that ends in the tensor it is for."""

    def __init__(self, work: Any, buffer: torch.Tensor, tensor: torch.Tensor) -> None:  # noqa: ANN401 - torch's handle
        self._work, self._buffer, self._tensor = work, buffer, tensor

    def wait(self, *args: Any, **kwargs: Any) -> bool:  # noqa: ANN401 - torch's signature
        """Wait for the message and copy it to the device."""
        self._work.wait(*args, **kwargs)
        self._tensor.detach().copy_(self._buffer)  # it may be a leaf that requires a gradient
        return True

    def is_completed(self) -> bool:
        """Whether the message has arrived."""
        return self._work.is_completed()


def stage_messages(on_device: Callable[[torch.Tensor], bool] = lambda tensor: tensor.is_cuda) -> None:
    """From now on, `isend` and `irecv` take tensors that are `on_device` through the host."""
    isend, irecv = dist.isend, dist.irecv

    def staged_isend(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - torch's signature
        return isend(tensor.detach().to("cpu", copy=True) if on_device(tensor) else tensor, *args, **kwargs)

    def staged_irecv(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - torch's signature
        if not on_device(tensor):
            return irecv(tensor, *args, **kwargs)
        buffer = torch.empty_like(tensor, device="cpu")
        return _Received(irecv(buffer, *args, **kwargs), buffer, tensor)

    # torch compares what it is asked to do with both of these names
    dist.isend = distributed_c10d.isend = staged_isend
    dist.irecv = distributed_c10d.irecv = staged_irecv
