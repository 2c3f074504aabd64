"""Makes what a rank sends to some other rank arrive late, as over a slow link: the sender goes on at once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d


class _Sent:
    """A send that is complete as far as its sender is concerned."""

    def wait(self, timeout: Any = None) -> bool:  # noqa: ANN401, ARG002 - torch's signature
        """Nothing to wait for: the link holds a copy."""
        return True

    def is_completed(self) -> bool:
        """Always."""
        return True


class _Link(threading.Thread):
    """Sends in order, each message `delay_s` after it was posted."""

    def __init__(self, delay_s: float, isend: Callable[..., Any]) -> None:
        super().__init__(daemon=True)
        self._delay_s = delay_s
        self._isend = isend
        self._posted: queue.SimpleQueue[tuple[float, torch.Tensor, dict[str, Any]]] = queue.SimpleQueue()

    def post(self, tensor: torch.Tensor, arguments: dict[str, Any]) -> _Sent:
        """Take a message over."""
        self._posted.put((time.monotonic() + self._delay_s, tensor.clone(), arguments))
        return _Sent()

    def run(self) -> None:
        """Deliver for as long as the process lives."""
        while True:
            due, tensor, arguments = self._posted.get()
            time.sleep(max(0.0, due - time.monotonic()))
            self._isend(tensor, **arguments).wait()


def delay_links(delays_s: Mapping[int, float]) -> None:
    """From now on, `isend` to the ranks of the job in `delays_s`, over any group, arrives that much later."""
    if not delays_s:
        return
    isend = dist.isend
    links = {target: _Link(delay_s, isend) for target, delay_s in delays_s.items()}
    for link in links.values():
        link.start()

    def delayed(
        tensor: torch.Tensor,
        dst: int | None = None,
        group: dist.ProcessGroup | None = None,
        tag: int = 0,
        group_dst: int | None = None,
    ) -> Any:  # noqa: ANN401 - torch's work handle or ours
        arguments: dict[str, Any] = {"group": group, "tag": tag}
        arguments |= (
            {"dst": dst} if group_dst is None else {"group_dst": group_dst}
        )  # torch before 2.6 knows `dst` only
        members: Any = group or dist.group.WORLD  # which torch types as possibly nothing
        target = dst if group_dst is None else dist.get_global_rank(members, group_dst)
        if target not in links:
            return isend(tensor, **arguments)
        with _send_event(tensor, dist.get_group_rank(members, target), tag):
            return links[target].post(tensor, arguments)

    # torch compares what it is asked to do with both of these names
    dist.isend = distributed_c10d.isend = delayed


def _send_event(tensor: torch.Tensor, target: int, tag: int) -> Any:  # noqa: ANN401 - a context of torch's
    """The event that torch's own send would leave in the trace of the sending thread."""
    bindings: Any = torch._C  # noqa: SLF001 - there is no public way to leave such an event
    return bindings._profiler._RecordFunctionFast("c10d::send", [[tensor], None, target, tag])  # noqa: SLF001
