"""One job over several nodes: how many, which one this is, where they meet, and whose ranks run here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from traceanalyzer.errors import UsageError

NODE_FOLDER = "node{node:05d}"
"""In the folder of a job over several nodes: what the ranks of one node write."""
_PORT = 29_500
_HINT = "give --rdzv HOST:PORT, the same on all nodes; HOST is node 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Nodes are numbered from 0; ranks fill them in order, equally many on each."""

    count: int = 1
    rank: int = 0
    address: str = ""
    port: int = _PORT

    @classmethod
    def of(cls, count: int, rank: int, rendezvous: str | None) -> Nodes:
        """What options say. Raises `UsageError` if they do not fit."""
        if count == 1:
            return cls()
        if not 0 <= rank < count:
            raise UsageError(f"node {rank} is not one of {count} nodes", "number the nodes from 0")
        if not rendezvous:
            raise UsageError(f"{count} nodes need a place to meet", _HINT)
        address, port = parse_rendezvous(rendezvous)
        return cls(count=count, rank=rank, address=address, port=port)

    def ranks_here(self, num_ranks: int) -> int:
        """Ranks of every node. Raises `UsageError` if nodes would differ."""
        if num_ranks % self.count:
            raise UsageError(f"{num_ranks} ranks cannot be spread evenly over {self.count} nodes", "choose a multiple")
        return num_ranks // self.count

    def first_rank(self, num_ranks: int) -> int:
        """Lowest rank of this node."""
        return self.rank * self.ranks_here(num_ranks)

    def node_of(self, rank: int, num_ranks: int) -> int:
        """The node that a rank runs on."""
        return rank // self.ranks_here(num_ranks)

    def folder(self, out: Path) -> Path:
        """Where this node's ranks write."""
        return out if self.count == 1 else out / NODE_FOLDER.format(node=self.rank)

    def torchrun(self, num_ranks: int, start_timeout_s: int = 600) -> list[str]:
        """Options of torchrun."""
        each = ["--nproc-per-node", str(self.ranks_here(num_ranks))]
        if self.count == 1:
            return ["--standalone", *each]
        place = ["--nnodes", str(self.count), "--node-rank", str(self.rank)]
        return [
            *place,
            "--master-addr",
            self.address,
            "--master-port",
            str(self.port),
            *each,
            "--rdzv-conf",
            f"timeout={start_timeout_s}",
        ]


def parse_rendezvous(text: str) -> tuple[str, int]:
    """Host and port of `HOST`, `HOST:PORT` or `[IPv6]:PORT`. Raises `UsageError`."""
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or host.startswith("-") or not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise UsageError(f"'{text}' is not a place to meet", _HINT)
    return host, int(port)
