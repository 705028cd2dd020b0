"""Rekor v2's HTTP interface over the sandbox's log: statuses, headers and texts, no rules."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from keylessd.sandbox.bodies import BodyTooLargeError, read_body
from keylessd.sandbox.rekor_v2 import (
    REQUEST_MAX,
    TILE_WIDTH,
    FrozenError,
    InvalidRequestError,
    RekorV2,
)
from keylessd.sandbox.sequencer import DuplicateError, PushbackError
from keylessd.sandbox.store import StoreError

if TYPE_CHECKING:
    from starlette.requests import Request

FROZEN = "This log has been frozen, please switch to the latest log.\n"

# google.rpc.Code
_UNKNOWN = 2
_INVALID_ARGUMENT = 3
_NOT_FOUND = 5
_ALREADY_EXISTS = 6
_UNAVAILABLE = 14

# C2SP tlog-tiles: groups of three digits, all but the last one with an x.
_TILE = re.compile(
    r"(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)
_LEVEL_MAX = 7  # 8 levels of the tree each

_REFUSALS = (
    FrozenError,
    InvalidRequestError,
    BodyTooLargeError,
    DuplicateError,
    PushbackError,
    StoreError,
)

_logger = logging.getLogger(__name__)


def make_app(log: RekorV2) -> Starlette:
    """Return the ASGI application that serves *log*."""

    async def add(request: Request) -> Response:
        try:
            entry = await log.add(await read_body(request, REQUEST_MAX))
        except _REFUSALS as exc:
            return _refusal(exc)
        return Response(
            json.dumps(entry, separators=(",", ":")), 201, media_type="application/json"
        )

    async def checkpoint(_request: Request) -> Response:
        return PlainTextResponse(log.checkpoint())

    async def tile(request: Request) -> Response:
        found = _TILE.fullmatch(request.path_params["name"])
        content = None if found is None else _read_tile(log, found)
        if content is None:
            return _error(404, _NOT_FOUND, "Not Found")
        return Response(content, media_type="application/octet-stream")

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "SERVING"})

    return Starlette(
        routes=[
            Route("/api/v2/log/entries", add, methods=["POST"]),
            Route("/api/v2/checkpoint", checkpoint),
            Route("/api/v2/tile/{name:path}", tile),
            Route("/healthz", healthz),
        ]
    )


def _refusal(exc: Exception) -> Response:
    """Return the real server's answer to an entry that was not logged."""
    match exc:
        case FrozenError():
            return PlainTextResponse(FROZEN, 405)
        case InvalidRequestError():
            _logger.info("rekor v2 refused an entry: %s", exc)
            return _error(400, _INVALID_ARGUMENT, exc.public)
        case BodyTooLargeError():
            return _error(413, _INVALID_ARGUMENT, "http: request body too large")
        case DuplicateError():
            message = (
                f"an equivalent entry already exists in the transparency log with index {exc.index}"
            )
            return _error(409, _ALREADY_EXISTS, message, {"x-log-index": str(exc.index)})
        case PushbackError():
            return _error(503, _UNAVAILABLE, "reached max pushback; retry")
        case _:
            _logger.error("rekor v2 could not store an entry: %s", exc)
            return _error(500, _UNKNOWN, "failed to integrate entry")


def _read_tile(log: RekorV2, found: re.Match[str]) -> bytes | None:
    index = int(found["index"].replace("x", "").replace("/", ""))
    # One tile has one name: no leading groups of zeros.
    if found["index"].startswith("x000/"):
        return None
    width = TILE_WIDTH if found["width"] is None else int(found["width"])
    if found["width"] is not None and width >= TILE_WIDTH:
        return None
    if found["level"] == "entries":
        return log.entries_tile(index, width)
    level = int(found["level"])
    return log.tile(level, index, width) if level <= _LEVEL_MAX else None


def _error(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"code": code, "message": message, "details": []}, status, headers)
