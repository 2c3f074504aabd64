"""Why a job failed before its ranks could say so, from what torchrun and torch printed."""

from __future__ import annotations

import re
from typing import NamedTuple

from instrumented_runs.nodes import Nodes


class Cause(NamedTuple):
    """One sentence, and what to do."""

    reason: str
    remedy: str


_PORT = re.compile(r"EADDRINUSE|[Aa]ddress already in use")
_PORT_NUMBER = re.compile(r"port: (\d+)")
_INTERFACE = re.compile(
    r"Unable to find address for: (\S+)|[Nn]o socket interface found|Unable to find interface (\S+)"
)
_UNRESOLVED = re.compile(r"[Nn]ame or service not known|getaddrinfo|failure in name resolution")
_NO_MEETING = re.compile(
    r"DistStoreError|Timed out (?:after|waiting)|wait timeout after|RendezvousTimeoutError|client socket has timed out"
)
_ERROR = re.compile(r"^(?:\[[^\]\n]*\]:?\s*)*((?:\w+\.)*\w*(?:Error|Exception)): (.+)$", re.MULTILINE)
_LONGEST = 200


def cause_in(log: str, nodes: Nodes, num_ranks: int) -> Cause | None:
    """The first known cause in a log; None where it shows none. Causes go before their consequences."""
    if found := _INTERFACE.search(log):
        name = next((each for each in found.groups() if each), "that is named")
        return Cause(
            f"there is no network interface {name} on this machine",
            "set GLOO_SOCKET_IFNAME (NCCL_SOCKET_IFNAME) to one that `ip link` lists, or unset it",
        )
    if _PORT.search(log):
        number = _PORT_NUMBER.search(log)
        port = number[1] if number else str(nodes.port)
        return Cause(f"port {port} of this machine is in use", "give --rdzv another port, the same on all nodes")
    if _UNRESOLVED.search(log):
        return Cause(f"the host {nodes.address} is not known here", "give --rdzv an address that all nodes can resolve")
    if nodes.count > 1 and _NO_MEETING.search(log):
        return _missing(nodes, num_ranks)
    return None


def last_error(log: str) -> str | None:
    """The last error that the log names, without its traceback; torchrun's own summary is none."""
    named = [f"{kind.rpartition('.')[2]}: {text}" for kind, text in _ERROR.findall(log) if "ChildFailed" not in kind]
    return named[-1][:_LONGEST] if named else None


def _missing(nodes: Nodes, num_ranks: int) -> Cause:
    each = nodes.ranks_here(num_ranks)
    others = [node for node in range(nodes.count) if node != nodes.rank]
    place = f"{nodes.address}:{nodes.port}"
    if nodes.rank > 0:
        who = f"node 0 (rank 0{f' to {each - 1}' if each > 1 else ''})"
        reason = f"{who}, or another node, did not come to {place}"
    elif len(others) == 1:
        ranks = f"rank {others[0] * each}" + (f" to {others[0] * each + each - 1}" if each > 1 else "")
        reason = f"node {others[0]} ({ranks}) never started: it did not come to {place}"
    else:
        reason = f"not all of nodes 1 to {nodes.count - 1} came to {place}"
    return Cause(reason, "start the launcher on every node; start_timeout_s is how long they wait for each other")
