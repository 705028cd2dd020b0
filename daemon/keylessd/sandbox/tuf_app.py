"""Serves the sandbox's TUF repository over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from keylessd.sandbox.tuf_repo import TufRepository


def make_app(repository: TufRepository) -> Starlette:
    """Return the application that serves *repository* from its root path."""

    async def file(request: Request) -> Response:
        content = repository.read(request.path_params["path"])
        if content is None:
            return PlainTextResponse("not found", status_code=404)
        return Response(content, media_type="application/octet-stream")

    return Starlette(routes=[Route("/{path:path}", file)])
