"""A loopback TCP proxy that delays both directions and counts round trips, in a process of its own.

A round trip is a burst from the client that the server answered: however many packets or messages the burst has. The
delay is real time between reading and writing, kept by ``select`` (asyncio's timers round up to a millisecond).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import socket
import time
from collections import deque
from multiprocessing.sharedctypes import Synchronized
from typing import Self

DELAY = 0.0005
"""Seconds each way."""

Address = tuple[str, int]


class _Pipe:
    """One direction of one connection: bytes wait until they are due."""

    def __init__(self, source: socket.socket, sink: socket.socket, *, from_client: bool) -> None:
        self.source = source
        self.sink = sink
        self.from_client = from_client
        self.waiting: deque[tuple[float, bytes]] = deque()


def _upstream(address: Address) -> socket.socket:
    host, port = address
    if host.startswith("/"):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server
    server = socket.create_connection((host, port))
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def serve(listener: socket.socket, upstream: Address, delay: float, trips: Synchronized[int]) -> None:
    """Relay until the parent ends. One thread: nothing here computes, and order within a direction is kept."""
    pipes: dict[socket.socket, _Pipe] = {}
    asked: dict[_Pipe, bool] = {}
    partner: dict[_Pipe, _Pipe] = {}

    def accept() -> None:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = _upstream(upstream)
        up, down = _Pipe(client, server, from_client=True), _Pipe(server, client, from_client=False)
        pipes[client], pipes[server] = up, down
        partner[up], partner[down] = down, up
        asked[up] = False

    def drop(pipe: _Pipe) -> None:
        other = partner.pop(pipe)
        partner.pop(other, None)
        with contextlib.suppress(OSError):
            for _, data in pipe.waiting:
                pipe.sink.sendall(data)
        for one in (pipe, other):
            one.waiting.clear()
            pipes.pop(one.source, None)
            asked.pop(one, None)
            one.source.close()

    def receive(pipe: _Pipe) -> None:
        try:
            data = pipe.source.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            drop(pipe)
            return
        if pipe.from_client:
            asked[pipe] = True
        elif asked[partner[pipe]]:
            asked[partner[pipe]] = False
            with trips.get_lock():
                trips.value += 1
        pipe.waiting.append((time.perf_counter() + delay, data))

    def send_due() -> float:
        """Seconds until the next bytes are due, at most one, so that an orphan notices."""
        soonest = None
        now = time.perf_counter()
        for pipe in list(pipes.values()):
            while pipe.waiting and pipe.waiting[0][0] <= now:
                try:
                    pipe.sink.sendall(pipe.waiting.popleft()[1])
                except OSError:
                    drop(pipe)
                    break
            if pipe.waiting and (soonest is None or pipe.waiting[0][0] < soonest):
                soonest = pipe.waiting[0][0]
        return 1.0 if soonest is None else max(0.0, soonest - time.perf_counter())

    parent = os.getppid()
    while os.getppid() == parent:
        readable, _, _ = select.select([listener, *pipes], [], [], send_due())
        for ready in readable:
            if ready is listener:
                accept()
            elif ready in pipes:
                receive(pipes[ready])


class Proxy:
    """``with Proxy(host, port) as proxy:`` listens on loopback; ``proxy.trips`` counts since the last ``reset``."""

    def __init__(self, host: str, port: int, delay: float = DELAY) -> None:
        self._upstream = (host, port)
        self._delay = delay
        self.host = "127.0.0.1"
        self.port = 0

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._count = context.Value("q", 0)
        listener = socket.create_server((self.host, 0))
        self.port = listener.getsockname()[1]
        self._process = context.Process(
            target=serve, args=(listener, self._upstream, self._delay, self._count), daemon=True
        )
        self._process.start()
        listener.close()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.join(5)

    @property
    def trips(self) -> int:
        return int(self._count.value)

    def reset(self) -> None:
        with self._count.get_lock():
            self._count.value = 0
