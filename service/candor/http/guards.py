"""The edge's rules, one function per rule: size, Host, key, form of a POST, request id, deadline.

Each function takes the raw header list of the ASGI scope and raises an error for a request that it
refuses. No I/O, no state.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import math
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from candor.errors import InvalidRequest, Unauthorized, UnsupportedMediaType

Headers = Sequence[tuple[bytes, bytes]]
"""Names are lower case, as ASGI gives them."""

MIB = 1024 * 1024
MAX_TIMEOUT_S = 86_400.0
"""Longest `X-Request-Timeout`: a day, so that a caller can state any wait that it means."""

MAX_NAME = 253
"""Longest DNS name."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+(?:%[A-Za-z0-9._~%-]+)?\]|[A-Za-z0-9._-]+)(:[0-9]{0,5})?")
"""A name or an address, and a port, which may be empty. An IPv6 address may name its interface."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request before it is parsed."""

    header_bytes: int = 32 * 1024
    headers: int = 100
    url_bytes: int = 8 * 1024
    body_bytes: int = 64 * MIB
    body_s: float = 30.0
    """Time for the body to arrive; one second more per MiB that has arrived."""
    linger_s: float = 2.0
    """How long the body of a refused request is discarded, so that the caller can read the
    refusal."""


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of one header."""
    return [value for key, value in headers if key == name]


def check_size(headers: Headers, url_bytes: int, limits: Limits) -> None:
    if url_bytes > limits.url_bytes:
        raise InvalidRequest(f"the URL is longer than {limits.url_bytes} bytes")
    header_bytes = sum(len(name) + len(value) for name, value in headers)
    if header_bytes > limits.header_bytes or len(headers) > limits.headers:
        raise InvalidRequest(
            f"more than {limits.headers} headers or {limits.header_bytes} bytes of them"
        )


def check_host(headers: Headers, names: Collection[str]) -> None:
    """Requires one Host header, with an allowed name or any IP address.

    This prevents DNS rebinding: a web page makes its own domain name point to this server. The
    attack needs a name, so any address passes, and a server on a pod's address needs no list. It
    also needs a route without a key, so routes with a key are not checked.
    """
    hosts = values(headers, b"host")
    match = _HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
    if match is None:
        raise InvalidRequest("send exactly one Host header, a name or an address")
    name = match[1].strip("[]").lower().removesuffix(".")
    if name in names or _is_address(name):
        return
    # The pattern above lets no other character through than those of a name.
    named = name if len(name) <= MAX_NAME else "NAME"
    raise InvalidRequest(
        f"a server without a key answers only to its own names, and the Host header has another: "
        f"add --host-name {named} to candor serve, or give the server a key (--api-key-file)"
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_key(headers: Headers, key: bytes | None) -> None:
    """Requires the key, as Bearer or as the password of Basic. Compares in constant time.

    Basic is there for trainers that cannot set a header: the URL `http://user:key@host/` sends it.
    """
    if key is None:
        return
    authorizations = values(headers, b"authorization")
    presented = _presented_key(authorizations[0]) if len(authorizations) == 1 else None
    if presented is None or not hmac.compare_digest(presented, key):
        raise Unauthorized(
            "send this route's key: Authorization: Bearer KEY, or Basic with the key as password"
        )


def _presented_key(authorization: bytes) -> bytes | None:
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return None
    return None


def check_post(headers: Headers) -> None:
    """Requires a JSON content type and no foreign Origin. Another server's web page cannot send
    such a request without a preflight, which is not answered."""
    check_origin(headers)
    kinds = [value.split(b";")[0].strip().lower() for value in values(headers, b"content-type")]
    if kinds != [b"application/json"]:
        raise UnsupportedMediaType("send Content-Type: application/json")
    if any(value.strip().lower() != b"identity" for value in values(headers, b"content-encoding")):
        raise UnsupportedMediaType("compressed bodies are refused; send no Content-Encoding")


def check_origin(headers: Headers) -> None:
    """Requires that a web page which sends a request comes from this server: the inspector.

    A browser writes the page's origin. `check_host` has refused the names that are not this
    server's where no key protects it, so an Origin that is equal to the Host is this server's own.
    """
    origins = values(headers, b"origin")
    if not origins:
        return
    hosts = values(headers, b"host")
    if (
        len(origins) > 1
        or len(hosts) != 1
        or hosts[0].strip().lower() not in _own_hosts(origins[0])
    ):
        raise InvalidRequest(
            "requests from web pages of other servers are refused: the Origin header is not this "
            "server's own address; other programs send no Origin header"
        )


def _own_hosts(origin: bytes) -> tuple[bytes, ...]:
    """The Host headers that a page of this origin sends to its own server: with the scheme's own
    port or without it. None of them for an origin that is no server (`null` is that of a file)."""
    scheme, found, authority = origin.strip().lower().partition(b"://")
    port = {b"http": b":80", b"https": b":443"}.get(scheme)
    if not found or port is None or not authority:
        return ()
    return authority, authority.removesuffix(port), authority.removesuffix(port) + port


def timeout_s(headers: Headers, default: float) -> float:
    """`X-Request-Timeout`: how many seconds the caller will wait."""
    timeouts = values(headers, b"x-request-timeout")
    if not timeouts:
        return default
    try:
        seconds = float(timeouts[0])
    except ValueError:
        seconds = math.nan
    if len(timeouts) > 1 or not 0 < seconds <= MAX_TIMEOUT_S:
        raise InvalidRequest(
            f"X-Request-Timeout must be one number of seconds, over 0 and up to {MAX_TIMEOUT_S:g}"
        )
    return seconds


def request_id(headers: Headers) -> str:
    """The caller's `X-Request-ID` if it is a single harmless word, else a new id."""
    ids = values(headers, b"x-request-id")
    if len(ids) == 1 and _REQUEST_ID.fullmatch(ids[0]):
        return ids[0].decode()
    return secrets.token_hex(8)
