"""A proxy on loopback that does to a server's answers what networks do: slows them, cuts them, or refuses for a while."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass


@dataclass
class Faults:
    """What the next connections suffer; every count goes down as it is used."""

    refused: int = 0
    """Requests answered with 503."""
    cut: int = 0
    """Answers of more than `cut_after` bytes that end there."""
    cut_after: int = 3_000
    slow_seconds: float = 0.0
    """Before every piece of an answer."""
    num_cut: int = 0
    num_refused: int = 0


class FaultyProxy:
    """Listens on a free port of 127.0.0.1 and passes on to another."""

    def __init__(self, port: int) -> None:
        self.faults = Faults()
        self._target = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            while head := client.recv(1 << 16):
                if self.faults.refused > 0:
                    self.faults.refused -= 1
                    self.faults.num_refused += 1
                    client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    return
                if not self._answer(client, head):
                    return

    def _answer(self, client: socket.socket, head: bytes) -> bool:
        """Pass one request on, on a connection of its own, and its answer back; whether the client may ask again."""
        passed = 0
        with socket.create_connection(("127.0.0.1", self._target)) as server:
            server.sendall(head.replace(b"Connection: keep-alive", b"Connection: close", 1))
            server.settimeout(10)
            while data := server.recv(1 << 12):
                time.sleep(self.faults.slow_seconds)
                if self.faults.cut > 0 and passed + len(data) > self.faults.cut_after:
                    self.faults.cut -= 1
                    self.faults.num_cut += 1
                    client.sendall(data[: max(0, self.faults.cut_after - passed)])
                    return False
                client.sendall(data)
                passed += len(data)
        return False
