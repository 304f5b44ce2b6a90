"""The edge's rules, one function each: Host, key, form of a POST, request id, deadline.

Each takes the raw header list of the ASGI scope and raises what it refuses. No I/O, no state.
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
MAX_TIMEOUT_S = 600.0

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may cost before it is understood."""

    header_bytes: int = 32 * 1024
    headers: int = 100
    url_bytes: int = 8 * 1024
    body_bytes: int = 64 * MIB
    body_s: float = 30.0
    """For the body to arrive, and a second more for each MiB that has."""
    linger_s: float = 2.0
    """How long an unwanted body is thrown away so that the caller can read the refusal."""


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
    """One Host header with an allowed name or any address.

    This is against DNS rebinding (a web page whose own name is made to point here), which needs a
    name; so an address passes, and a server on a pod's address needs no list.
    """
    hosts = values(headers, b"host")
    match = _HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
    if match is None:
        raise InvalidRequest("send exactly one Host header, a name or an address")
    name = match[1].strip("[]").lower()
    if name in names:
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise InvalidRequest(
            "this Host name is not served; start the server with --host-name to allow it"
        ) from None


def check_key(headers: Headers, key: bytes | None) -> None:
    """The key as Bearer or as the password of Basic; compared in constant time.

    Basic because some trainers can set no header, but `http://user:key@host/` in their URL sends
    one.
    """
    if key is None:
        return
    given = values(headers, b"authorization")
    presented = _presented_key(given[0]) if len(given) == 1 else None
    if presented is None or not hmac.compare_digest(presented, key):
        raise Unauthorized(
            "send this route's key: Authorization: Bearer KEY, or Basic with it as password"
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
    """A JSON content type and no Origin: what a web page cannot send here without asking first."""
    if values(headers, b"origin"):
        raise InvalidRequest("requests from web pages (Origin header) are refused")
    kinds = [value.split(b";")[0].strip().lower() for value in values(headers, b"content-type")]
    if kinds != [b"application/json"]:
        raise UnsupportedMediaType("send Content-Type: application/json")
    if any(value.strip().lower() != b"identity" for value in values(headers, b"content-encoding")):
        raise UnsupportedMediaType("compressed bodies are refused; send no Content-Encoding")


def timeout_s(headers: Headers, default: float) -> float:
    """`X-Request-Timeout`, seconds the caller will wait."""
    given = values(headers, b"x-request-timeout")
    if not given:
        return default
    try:
        seconds = float(given[0])
    except ValueError:
        seconds = math.nan
    if len(given) > 1 or not 0 < seconds <= MAX_TIMEOUT_S:
        raise InvalidRequest(
            f"X-Request-Timeout must be one number of seconds, over 0 and up to {MAX_TIMEOUT_S:g}"
        )
    return seconds


def request_id(headers: Headers) -> str:
    """The caller's `X-Request-ID` if it is one harmless word, else a new one."""
    given = values(headers, b"x-request-id")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode()
    return secrets.token_hex(8)
