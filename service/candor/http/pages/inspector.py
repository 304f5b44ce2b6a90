"""`/inspector`, and `/` that leads there; or, where the inspector is off, the reason.

The page is the same bytes on every server, so it needs no key: it asks the reader for the key and
sends it to this server only. It may do what a caller with that key may do, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Response

from candor.errors import NotFound
from candor.page.render import inspector, policy

PATHS = ("/", "/inspector")

router = APIRouter(include_in_schema=False)
off = APIRouter(include_in_schema=False)
"""The routes of a server without the inspector."""


def page_headers(rules: str) -> Mapping[str, str]:
    """The headers of a page that only this server may feed and nobody may frame."""
    return {
        "content-security-policy": rules,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }


@router.get("/")
async def home() -> Response:
    """Leads to the inspector. The address is relative, so that it holds behind a proxy's prefix."""
    return Response(status_code=307, headers={"location": "inspector"})


@router.get("/inspector")
async def inspector_page() -> Response:
    """The page, without anything of this server in it."""
    headers = page_headers(policy(live=True))
    return Response(inspector(), media_type="text/html; charset=utf-8", headers=dict(headers))


@off.get("/")
@off.get("/inspector")
async def no_inspector() -> Response:
    """Says how to have the page."""
    raise NotFound("the inspector is off; start the server with --inspector to have it")
