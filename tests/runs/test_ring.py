"""Ring attention equals full attention, forward and in all gradients; members are threads that pass blocks by queues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from queue import Queue

import pytest

pytest.importorskip("torch", reason="reference jobs need torch")

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from instrumented_runs.mixes.ring import Ring, RingAttention, positions


@dataclass(frozen=True, slots=True)
class QueuedRing(Ring):
    """A ring within one process; messages match in the order in which they were begun, as those of a process group do."""

    mail: dict[tuple[int, int], Queue[torch.Tensor]] = field(default_factory=dict[tuple[int, int], Queue[torch.Tensor]])
    """By receiver and number of the message."""
    numbers: Iterator[int] = field(default_factory=count)

    def turn(self, block: torch.Tensor) -> Callable[[], torch.Tensor]:
        number = next(self.numbers)
        self._box((self.place + 1) % self.size, number).put(block.clone())
        return lambda: self._box(self.place, number).get(timeout=20)

    def _box(self, place: int, number: int) -> Queue[torch.Tensor]:
        return self.mail.setdefault((place, number), Queue())


@pytest.mark.parametrize("cut", ["contiguous", "zigzag"])
@pytest.mark.parametrize("size", [2, 4])
def test_a_ring_equals_full_attention(size: int, cut: str) -> None:
    length = 24
    generator = torch.Generator().manual_seed(size)
    q, k, v, weights = (
        torch.randn(2, 3, length, 5, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(4)
    )
    whole = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    expected = [whole, *torch.autograd.grad((whole * weights).sum(), (q, k, v))]
    mail: dict[tuple[int, int], Queue[torch.Tensor]] = {}

    def member(place: int) -> list[torch.Tensor]:
        held = positions(length, place, size, cut)
        own = [part.detach()[:, :, held].requires_grad_() for part in (q, k, v)]
        out = RingAttention.apply(*own, QueuedRing(None, size, place, length, cut, mail=mail))
        return [out, *torch.autograd.grad((out * weights.detach()[:, :, held]).sum(), own)]

    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(member, range(size)))
    for place, parts in enumerate(found):
        held = positions(length, place, size, cut)
        for part, full in zip(parts, expected, strict=True):
            torch.testing.assert_close(part, full[:, :, held], rtol=1e-12, atol=1e-12)
