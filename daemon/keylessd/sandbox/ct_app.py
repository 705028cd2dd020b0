"""The read side of a certificate transparency log over HTTP (RFC 6962, 4)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from keylessd.sandbox.ctlog import CtLog, precert_chain_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

# A log may give fewer entries than asked for (RFC 6962, 4.6).
ENTRIES_MAX = 256


class _ParameterError(ValueError):
    """A parameter is missing or is not what it has to be."""


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > 18:  # noqa: PLR2004  # fits 63 bits
        raise _ParameterError(f"the parameter {name} is not a number")
    return int(text)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class _Log:
    def __init__(self, log: CtLog, chain: Sequence[bytes]) -> None:
        self._log = log
        self._chain = chain

    async def tree_head(self, request: Request) -> Response:
        del request
        head = self._log.tree_head()
        return JSONResponse(
            {
                "tree_size": head.size,
                "timestamp": head.timestamp,
                "sha256_root_hash": _base64(head.root_hash),
                "tree_head_signature": _base64(head.signature),
            }
        )

    async def entries(self, request: Request) -> Response:
        try:
            start, end = _number(request, "start"), _number(request, "end")
        except _ParameterError as exc:
            return PlainTextResponse(str(exc), status_code=400)
        if not start <= end or start >= self._log.size:
            return PlainTextResponse("no such entries", status_code=400)
        found = self._log.entries(start, min(end, start + ENTRIES_MAX - 1))
        return JSONResponse(
            {
                "entries": [
                    {
                        "leaf_input": _base64(entry.leaf),
                        "extra_data": _base64(precert_chain_entry(entry, self._chain)),
                    }
                    for entry in found
                ]
            }
        )

    async def proof(self, request: Request) -> Response:
        try:
            size = _number(request, "tree_size")
            leaf_hash = base64.b64decode(request.query_params.get("hash", ""), validate=True)
        except (_ParameterError, binascii.Error) as exc:
            return PlainTextResponse(str(exc), status_code=400)
        found = self._log.proof(leaf_hash, size)
        if found is None:
            return PlainTextResponse("no such leaf", status_code=404)
        return JSONResponse(
            {"leaf_index": found[0], "audit_path": [_base64(node) for node in found[1]]}
        )

    async def consistency(self, request: Request) -> Response:
        try:
            found = self._log.consistency(_number(request, "first"), _number(request, "second"))
        except _ParameterError as exc:
            return PlainTextResponse(str(exc), status_code=400)
        if found is None:
            return PlainTextResponse("no such trees", status_code=400)
        return JSONResponse({"consistency": [_base64(node) for node in found]})

    async def roots(self, request: Request) -> Response:
        del request
        return JSONResponse({"certificates": [_base64(self._chain[-1])]})


def make_app(log: CtLog, chain: Sequence[bytes]) -> Starlette:
    """Return the application that shows *log*; *chain* is the CA's, DER, issuer first."""
    shown = _Log(log, chain)
    return Starlette(
        routes=[
            Route("/ct/v1/get-sth", shown.tree_head),
            Route("/ct/v1/get-entries", shown.entries),
            Route("/ct/v1/get-proof-by-hash", shown.proof),
            Route("/ct/v1/get-sth-consistency", shown.consistency),
            Route("/ct/v1/get-roots", shown.roots),
        ]
    )
