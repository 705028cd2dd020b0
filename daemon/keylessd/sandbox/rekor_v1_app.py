"""Rekor v1's HTTP interface over the sandbox's log: statuses, headers and texts, no rules."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from keylessd.core.strict_json import JsonValue, StrictJsonError, loads
from keylessd.sandbox.bodies import BodyTooLargeError, read_body
from keylessd.sandbox.rekor_v1 import (
    REQUEST_MAX,
    BadQueryError,
    EntryExistsError,
    Logged,
    RekorV1,
)
from keylessd.sandbox.rekor_v1_entries import InvalidEntryError, UnknownKindError
from keylessd.sandbox.sequencer import PushbackError
from keylessd.sandbox.store import StoreError

if TYPE_CHECKING:
    from starlette.requests import Request

ENTRIES = "/api/v1/log/entries"
QUERIES_MAX = 10
_INT_MAX = 1 << 63

_ANSWERS: dict[type[Exception], tuple[int, str]] = {
    InvalidEntryError: (400, "error processing entry: {}"),
    UnknownKindError: (422, "{}"),
    BadQueryError: (400, "{}"),
    BodyTooLargeError: (413, "http: request body too large"),
    PushbackError: (503, "too many requests wait for the log"),
    StoreError: (500, "unexpected error communicating with transparency log"),
}

_logger = logging.getLogger(__name__)


class _Interface:
    """The handlers."""

    def __init__(self, log: RekorV1) -> None:
        self._log = log

    async def add(self, request: Request) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            message = f"unsupported media type {media_type!r}, only [application/json] are allowed"
            return _error(415, message)
        logged = await self._log.add(await read_body(request, REQUEST_MAX))
        headers = {"Location": f"{ENTRIES}/{logged.uuid}", "ETag": logged.uuid}
        return _json(logged.json(), 201, headers)

    async def by_uuid(self, request: Request) -> Response:
        return _found(self._log.by_uuid(request.path_params["uuid"]))

    async def by_index(self, request: Request) -> Response:
        return _found(self._log.by_index(_number(request, "logIndex")))

    async def retrieve(self, request: Request) -> Response:
        query = await _query(request)
        if not isinstance(query, dict):
            raise BadQueryError("the query is not an object")
        uuids, indexes, proposals = (
            _items(query.get(name)) for name in ("entryUUIDs", "logIndexes", "entries")
        )
        count = len(uuids) + len(indexes) + len(proposals)
        if count > QUERIES_MAX:
            return _error(422, f"more than max allowed {QUERIES_MAX} entries in request")
        if count == 0:
            return _error(422, "the query names no entries")
        found = [self._log.by_uuid(str(uuid)) for uuid in uuids]
        found += [self._log.by_index(item) for item in indexes if type(item) is int]
        found += [self._log.by_proposal(proposal) for proposal in proposals]
        return _json([logged.json() for logged in found if logged is not None])

    async def info(self, _request: Request) -> Response:
        return _json(self._log.info())

    async def public_key(self, _request: Request) -> Response:
        pem = self._log.public_key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return Response(pem, media_type="application/x-pem-file")

    async def proof(self, request: Request) -> Response:
        first = _number(request, "firstSize", default=1)
        tree = request.query_params.get("treeID")
        if tree not in {None, "", str(self._log.tree_id)}:
            raise BadQueryError(f"no tree {tree}")
        return _json(self._log.consistency(first, _number(request, "lastSize")))

    async def search(self, request: Request) -> Response:
        found: list[JsonValue] = [*self._log.search(await _query(request))]
        return _json(found)

    async def ping(self, _request: Request) -> Response:
        return Response(status_code=200)


def make_app(log: RekorV1) -> Starlette:
    """Return the ASGI application that serves *log*."""
    interface = _Interface(log)
    return Starlette(
        routes=[
            Route(ENTRIES, interface.add, methods=["POST"]),
            Route(ENTRIES, interface.by_index, methods=["GET"]),
            Route(f"{ENTRIES}/retrieve", interface.retrieve, methods=["POST"]),
            # sigstore-python asks with the slash.
            Route(f"{ENTRIES}/retrieve/", interface.retrieve, methods=["POST"]),
            Route(f"{ENTRIES}/{{uuid}}", interface.by_uuid),
            Route("/api/v1/log", interface.info),
            Route("/api/v1/log/publicKey", interface.public_key),
            Route("/api/v1/log/proof", interface.proof),
            Route("/api/v1/index/retrieve", interface.search, methods=["POST"]),
            Route("/ping", interface.ping),
        ],
        exception_handlers=dict.fromkeys((*_ANSWERS, EntryExistsError), _failed),
    )


async def _failed(_request: Request, exc: Exception) -> Response:
    """Return the real server's answer to what was refused."""
    if isinstance(exc, EntryExistsError):
        return _error(409, str(exc), {"Location": f"{ENTRIES}/{exc.uuid}"})
    if isinstance(exc, StoreError):
        _logger.error("rekor v1 could not use its storage: %s", exc)
    status, message = _ANSWERS[type(exc)]
    return _error(status, message.format(exc))


async def _query(request: Request) -> JsonValue:
    raw = await read_body(request, REQUEST_MAX)
    try:
        return loads(raw, max_bytes=REQUEST_MAX)
    except StrictJsonError as exc:
        raise BadQueryError(f"parsing query body failed: {exc}") from exc


def _items(value: JsonValue) -> list[JsonValue]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadQueryError("a list was expected")
    return value


def _number(request: Request, name: str, *, default: int | None = None) -> int:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or len(text) > len(str(_INT_MAX)):
        raise BadQueryError(f"{name} in query must be a number")
    return int(text)


def _found(logged: Logged | None) -> Response:
    # The real server's 404 has no body.
    return Response(status_code=404) if logged is None else _json(logged.json())


def _json(value: JsonValue, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(value, separators=(",", ":"))
    return Response(content, status, headers, media_type="application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"code": status, "message": message}, status, headers)
