"""Requests that the server sends where a client told it to: to the public network alone.

Names are resolved once, every address is looked at, and the connection goes to an address that was
looked at: a name that leads elsewhere a moment later makes no difference. Redirects are not
followed, proxies not asked, and all of it ends when its time is up.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from autosparse.errors import ConfigError, ForbiddenError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 2000
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_HINT = "give https://HOST/PATH; whoever runs the server can allow a network of their own"


def check_url(url: str, allowed: Sequence[Network]) -> SplitResult:
    """Refuse what can never be sent to; a name is only looked up when something is sent.

    Raises:
        ConfigError: no URL of http or https.
        ForbiddenError: an address that is not public, nor in an allowed network.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")  # as the lookup does
    except ValueError as error:
        raise ConfigError(f"{url!r} is no URL: {error}", hint=_HINT) from error
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= _LONGEST_URL
    if not plain or parts.scheme not in _PORTS or not host:
        raise ConfigError("the webhook's URL is none of http or https", hint=_HINT)
    if parts.username is not None or parts.fragment:
        raise ConfigError("the webhook's URL has a user or a fragment in it", hint=_HINT)
    with contextlib.suppress(ValueError):
        _check_address(ipaddress.ip_address(host), allowed)
    return parts


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    allowed: Sequence[Network],
    limit_seconds: float,
) -> int:
    """Send a document, and tell the status of the answer, whose body is not read.

    Args:
        url: where to.
        headers: beside those of HTTP.
        body: the document.
        allowed: networks that may be reached though they are not public.
        limit_seconds: for all of it, once the name is resolved.

    Raises:
        ConfigError: no URL of http or https.
        ForbiddenError: the name leads to an address that is not public.
        OSError: it cannot be reached, or the time is up.
        http.client.HTTPException: what answers does not speak HTTP.
    """
    parts = check_url(url, allowed)
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, where in found:
        _check_address(ipaddress.ip_address(str(where[0]).partition("%")[0]), allowed)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with _Connection(host, port, limit_seconds) as connection:
        family, kind, protocol, _, where = found[0]
        connection.open(socket.socket(family, kind, protocol), where, parts.scheme == "https")
        connection.request("POST", path, body, dict(headers))
        return connection.status()


class _Connection(http.client.HTTPConnection):
    """To an address that was looked at, for a host that was named, until its time is up."""

    def __init__(self, host: str, port: int, limit_seconds: float) -> None:
        super().__init__(host, port, timeout=limit_seconds)
        self._limit_seconds = limit_seconds
        self._was_cut = False
        self._end = threading.Timer(limit_seconds, self._cut)

    def __enter__(self) -> Self:
        self._end.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.cancel()
        self.close()

    def open(self, plain: socket.socket, where: Any, tls: bool) -> None:
        """Connect, and see that the host's certificate is its own."""
        self.sock = plain
        plain.settimeout(self._limit_seconds)
        plain.connect(where)
        if tls:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(plain, server_hostname=self.host)

    def status(self) -> int:
        """The answer's; headers that break off where the time was up are no answer."""
        status = self.getresponse().status
        if self._was_cut:
            raise TimeoutError(f"the answer takes longer than {self._limit_seconds:.0f} s")
        return status

    def _cut(self) -> None:
        """However slowly the other side speaks: the limit of a socket is one for each piece."""
        self._was_cut = True
        with contextlib.suppress(OSError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)


def _check_address(address: Address, allowed: Sequence[Network]) -> None:
    inner = _embedded(address)
    if any(inner in network for network in allowed if network.version == inner.version):
        return
    if not inner.is_global or inner.is_multicast or inner.is_reserved:
        raise ForbiddenError(f"{address} is no public address", hint=_HINT)


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo is not None else None
    return address.ipv4_mapped or address.sixtofour or teredo or address
