"""What a rank holds for backward: bytes that autograd saved, and microbatches in flight."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from traceanalyzer.schedule import Action, Phase


class SavedBytes:
    """Bytes of the storages that autograd keeps for backward, weights left out; a shared storage counts once."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        self._holders: dict[int, int] = {}
        self._bytes = self._peak = 0

    def metered(self) -> AbstractContextManager[Any]:
        """Graphs recorded inside are metered for as long as they live."""
        return saved_tensors_hooks(self._hold, lambda held: held.tensor if isinstance(held, _Held) else held)

    def take_peak(self) -> int:
        """Most bytes held at once since the last call."""
        peak, self._peak = self._peak, self._bytes
        return peak

    def _hold(self, tensor: torch.Tensor) -> Any:  # noqa: ANN401 - what autograd hands back to us
        storage = tensor.untyped_storage()
        return tensor if storage.data_ptr() in self._weights else _Held(tensor, self)

    def count(self, address: int, num_bytes: int, change: int) -> None:
        """One holder more or less of the storage at `address`."""
        before = self._holders.get(address, 0)
        self._holders[address] = before + change
        if before == 0 or before + change == 0:
            self._bytes += change * num_bytes
            self._peak = max(self._peak, self._bytes)


class _Held:
    """A tensor that autograd saved; it is counted until the graph lets go of it."""

    __slots__ = ("_address", "_meter", "_num_bytes", "tensor")

    def __init__(self, tensor: torch.Tensor, meter: SavedBytes) -> None:
        self.tensor = tensor
        self._address = tensor.untyped_storage().data_ptr()
        self._num_bytes = tensor.untyped_storage().nbytes()
        self._meter = meter
        meter.count(self._address, self._num_bytes, 1)

    def __del__(self) -> None:
        self._meter.count(self._address, self._num_bytes, -1)


class InFlight:
    """Microbatches whose forward is done on a stage of this rank and whose last backward is not."""

    def __init__(self) -> None:
        self._held: set[tuple[int, int]] = set()
        self._peak = 0

    def done(self, action: Action) -> None:
        """Count a finished action."""
        if action.phase is Phase.FORWARD:
            self._held.add((action.stage, action.microbatch))
            self._peak = max(self._peak, len(self._held))
        elif action.phase is not Phase.INPUT_GRADIENT:
            self._held.discard((action.stage, action.microbatch))

    def take_peak(self) -> int:
        """Most held at once since the last call."""
        peak, self._peak = self._peak, len(self._held)
        return peak
