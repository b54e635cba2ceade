"""How client, host and runner talk: a packet with a socket in it, then frames of JSON on that socket."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

LOCAL = b"L"
SSH = b"S"
WARM = b"W"
"""Asks the host to have its SSH half ready before somebody needs it; comes without a socket."""

READY = b"\x02"
"""A runner's first byte: it has been forked and will read its request."""

GO = b"\x01"
"""A client's last byte: it knows which process the runner is, which may begin."""

_LENGTH = struct.Struct("!I")


def send_frame(stream: socket.socket, content: Mapping[str, Any]) -> None:
    """Send one JSON object."""
    body = json.dumps(content).encode()
    stream.sendall(_LENGTH.pack(len(body)) + body)


def receive_frame(stream: socket.socket) -> dict[str, Any] | None:
    """Return the next JSON object, or None if the other end went away before it was complete."""
    head = _receive(stream, _LENGTH.size)
    body = _receive(stream, _LENGTH.unpack(head)[0]) if head else None
    return json.loads(body) if body else None


def _receive(stream: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        chunk = stream.recv(size - len(received))
        if not chunk:
            return None
        received += chunk
    return bytes(received)
