"""The timestamp authority's HTTP interface over the sandbox's engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from keylessd.sandbox.bodies import BodyTooLargeError, read_body
from keylessd.sandbox.tsa import (
    BAD_REQUEST,
    REQUEST_MAX,
    InvalidRequestError,
    TimestampAuthority,
    pem,
)

if TYPE_CHECKING:
    from starlette.requests import Request

PATH = "/api/v1/timestamp"
QUERY = "application/timestamp-query"
REPLY = "application/timestamp-reply"


def make_app(authority: TimestampAuthority, *, success: int = 200) -> Starlette:
    """Return the ASGI application that serves *authority*.

    Args:
        authority: The engine.
        success: The status of a timestamp: 200, or 201 like servers before version 2.
    """

    async def stamp(request: Request) -> Response:
        # The whole value, since the real server compares it so.
        media_type = request.headers.get("content-type", "").strip().lower()
        if media_type != QUERY:
            message = f"unsupported media type {media_type!r}, only [{QUERY}] are allowed"
            return _error(415, message, media_type="application/json")
        try:
            reply = authority.respond(await read_body(request, REQUEST_MAX))
        except InvalidRequestError as exc:
            return _error(400, str(exc))
        except BodyTooLargeError:
            return _error(413, BAD_REQUEST)
        return Response(reply, success, media_type=REPLY)

    async def chain(_request: Request) -> Response:
        return Response(pem(authority.chain), media_type="application/pem-certificate-chain")

    async def ping(_request: Request) -> Response:
        return PlainTextResponse("", 200)

    return Starlette(
        routes=[
            Route(PATH, stamp, methods=["POST"]),
            Route(f"{PATH}/certchain", chain),
            Route("/ping", ping),
        ]
    )


def _error(status: int, message: str, *, media_type: str = REPLY) -> Response:
    # The real server's 400 says timestamp-reply too, although its body is JSON.
    content = json.dumps({"code": status, "message": message})
    return Response(content, status, media_type=media_type)
