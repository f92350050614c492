"""A connection between a driver and an agent that both hold one key.

The key never travels. Each side draws a nonce, and proves with HMAC-SHA-256 of both that it has the
key; from then on every frame carries a tag under a key of this connection, its direction and its
number, so that nobody in between can change, repeat or add one. What is sent can be read by
whoever sees the network: it is authenticated, not encrypted.

    agent -> driver   {"protocol": ..., "nonce": ...}
    driver -> agent   {"nonce": ..., "proof": ...}
    agent -> driver   {"proof": ...}                  or {"refused": ..., "message": ...}
    then frames: 4 bytes length, 32 bytes tag, payload
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import time
from typing import Any

from autosparse.errors import RequestError, UnauthenticatedError

PROTOCOL = "autosparse-agent/1"
HANDSHAKE_SECONDS = 10.0
"""Whoever takes longer to say who they are is turned away."""
SEND_SECONDS = 60.0
"""For the other side to take a frame."""
_HANDSHAKE_BYTES = 1024
_NONCE_BYTES = 32
_TAG_BYTES = 32
_LENGTH_BYTES = 4
_AGENT, _DRIVER = b"agent", b"driver"


class Wire:
    """An authenticated connection. Any error ends it.

    Args:
        connection: where both sides have proven that they hold the key.
        secret: of this connection alone.
        sends, receives: which side this is, and which the other.
    """

    def __init__(
        self, connection: socket.socket, secret: bytes, *, sends: bytes, receives: bytes
    ) -> None:
        self._connection = connection
        self._secret = secret
        self._sends, self._receives = sends, receives
        self._sent = self._received = 0

    @property
    def secret(self) -> bytes:
        """Of this connection alone: who is handed both, before a frame was sent, can go on."""
        return self._secret

    def send(self, payload: bytes, seconds: float = SEND_SECONDS) -> None:
        """Send one frame, and wait so long for the other side to take it.

        Raises:
            OSError: the other side is gone, or the time is up.
        """
        # else it would have what waiting for the last frame left of its time
        self._connection.settimeout(seconds)
        tag = self._tag(self._sends, self._sent, payload)
        self._sent += 1
        self._connection.sendall(len(payload).to_bytes(_LENGTH_BYTES, "big") + tag + payload)

    def receive(self, limit_bytes: int, seconds: float) -> bytes:
        """Wait for one frame.

        Raises:
            RequestError: it is longer than allowed, or not from who holds the key.
            OSError: the other side is gone, or the time is up.
        """
        end = time.monotonic() + seconds
        head = _exactly(self._connection, _LENGTH_BYTES + _TAG_BYTES, end)
        length = int.from_bytes(head[:_LENGTH_BYTES], "big")
        if length > limit_bytes:
            raise RequestError(f"a frame of {length} bytes came where {limit_bytes} are allowed")
        payload = _exactly(self._connection, length, end)
        tag = self._tag(self._receives, self._received, payload)
        if not hmac.compare_digest(head[_LENGTH_BYTES:], tag):
            raise RequestError("a frame came that was not sent by who holds the key")
        self._received += 1
        return payload

    def _tag(self, side: bytes, number: int, payload: bytes) -> bytes:
        text = side + number.to_bytes(8, "big") + payload
        return hmac.digest(self._secret, text, hashlib.sha256)


def answer_handshake(connection: socket.socket, key: bytes) -> Wire:
    """The agent's side: who connects must hold the key.

    Raises:
        UnauthenticatedError: it does not, and was told so.
        RequestError: it speaks another protocol.
        OSError: it is gone, or says nothing.
    """
    end = time.monotonic() + HANDSHAKE_SECONDS
    connection.settimeout(HANDSHAKE_SECONDS)
    mine = secrets.token_bytes(_NONCE_BYTES)
    _send_plain(connection, {"protocol": PROTOCOL, "nonce": mine.hex()})
    said = _receive_plain(connection, end)
    theirs, proof = _bytes_of(said, "nonce"), _bytes_of(said, "proof")
    if not hmac.compare_digest(proof, _proof(key, _DRIVER, mine, theirs)):
        raise UnauthenticatedError("the key is another one than the agent's")
    _send_plain(connection, {"proof": _proof(key, _AGENT, mine, theirs).hex()})
    return agents_wire(connection, _proof(key, b"connection", mine, theirs))


def offer_handshake(connection: socket.socket, key: bytes) -> Wire:
    """The driver's side: an agent with another key could answer anything.

    Raises:
        UnauthenticatedError: the agent has another key.
        RequestError: what answers is no agent, or turned the driver away.
        OSError: it is gone, or says nothing.
    """
    end = time.monotonic() + HANDSHAKE_SECONDS
    connection.settimeout(HANDSHAKE_SECONDS)
    hello = _receive_plain(connection, end)
    _raise_refusal(hello)
    if hello.get("protocol") != PROTOCOL:
        raise RequestError(
            f"what answers speaks {hello.get('protocol')!r}, not {PROTOCOL!r}",
            hint="install the same version of AutoSparse on the device",
        )
    theirs, mine = _bytes_of(hello, "nonce"), secrets.token_bytes(_NONCE_BYTES)
    proof = _proof(key, _DRIVER, theirs, mine)
    _send_plain(connection, {"nonce": mine.hex(), "proof": proof.hex()})
    answer = _receive_plain(connection, end)
    _raise_refusal(answer)
    if not hmac.compare_digest(_bytes_of(answer, "proof"), _proof(key, _AGENT, theirs, mine)):
        raise UnauthenticatedError("what answers does not hold the key: it is no agent of yours")
    return drivers_wire(connection, _proof(key, b"connection", theirs, mine))


def agents_wire(connection: socket.socket, secret: bytes) -> Wire:
    """The agent's side of a connection where both have proven that they hold the key."""
    return Wire(connection, secret, sends=_AGENT, receives=_DRIVER)


def drivers_wire(connection: socket.socket, secret: bytes) -> Wire:
    """The driver's side of a connection where both have proven that they hold the key."""
    return Wire(connection, secret, sends=_DRIVER, receives=_AGENT)


def refuse(connection: socket.socket, error: RequestError) -> None:
    """Tell whoever is not let in why, if it listens."""
    kind = "key" if isinstance(error, UnauthenticatedError) else "request"
    with contextlib.suppress(OSError):
        _send_plain(connection, {"refused": kind, "message": error.message})


def notice_the_dead(connection: socket.socket) -> None:
    """Have the system ask every few seconds whether the other machine is still there."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _raise_refusal(document: dict[str, Any]) -> None:
    if "refused" not in document:
        return
    message = f"the agent refuses: {document.get('message')}"
    if document["refused"] == "key":
        raise UnauthenticatedError(
            message, hint="give the file that the agent was started with, or its content"
        )
    raise RequestError(message)


def _proof(key: bytes, side: bytes, agents: bytes, drivers: bytes) -> bytes:
    text = b"|".join((PROTOCOL.encode(), side, agents, drivers))
    return hmac.digest(key, text, hashlib.sha256)


def _bytes_of(document: dict[str, Any], name: str) -> bytes:
    try:
        value = bytes.fromhex(document[name])
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError("the greeting has another form") from error
    if len(value) != _NONCE_BYTES:
        raise RequestError("the greeting has another form")
    return value


def _send_plain(connection: socket.socket, document: dict[str, str]) -> None:
    payload = json.dumps(document).encode()
    connection.sendall(len(payload).to_bytes(_LENGTH_BYTES, "big") + payload)


def _receive_plain(connection: socket.socket, end: float) -> dict[str, Any]:
    length = int.from_bytes(_exactly(connection, _LENGTH_BYTES, end), "big")
    if length > _HANDSHAKE_BYTES:
        raise RequestError("what was sent is no greeting of AutoSparse")
    try:
        document = json.loads(_exactly(connection, length, end))
    except (ValueError, RecursionError) as error:
        raise RequestError("what was sent is no greeting of AutoSparse") from error
    if not isinstance(document, dict):
        raise RequestError("what was sent is no greeting of AutoSparse")
    return document


def _exactly(connection: socket.socket, count: int, end: float) -> bytes:
    """So many bytes, however they are divided.

    Raises:
        OSError: the connection ended before, or the time is up.
    """
    received = bytearray()
    while len(received) < count:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came in time")
        connection.settimeout(left)
        piece = connection.recv(min(count - len(received), 1 << 20))
        if not piece:
            raise ConnectionResetError("the connection was closed")
        received += piece
    return bytes(received)
