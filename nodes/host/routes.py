"""What the front end of this pack asks the server: nothing is kept, nothing is written; of files, only eraser files are read."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

from ...rece_ops import RECEError
from ..request.concept_lists import LISTS
from ..request.live_parse import MAX_LIVE, understand

PARSE, CONCEPT_LISTS, ERASER = "/rece/parse", "/rece/lists", "/rece/eraser"
# Four fields of characters that JSON escapes as six bytes each.
_MAX_BYTES = 4 * 6 * MAX_LIVE


def register_routes(describe_file: Callable[[str], str]) -> None:
    """Add the routes of this pack; once, before the server starts.

    Args:
        describe_file: what an eraser file says of itself, by its name.
    """
    # A server that runs has imported itself; without one (tools, tests), importing it would start half of it.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is None or any(getattr(route, "path", "") == PARSE for route in server.routes):
        return
    server.routes.post(PARSE)(_parse)
    server.routes.get(CONCEPT_LISTS)(_lists)
    server.routes.get(ERASER)(_told_of(describe_file))


async def _parse(request: web.Request) -> web.Response:
    """How the fields of a node are understood; see `understand`.

    Only JSON: a form of another site cannot send it without the browser asking this server first.
    """
    if request.content_type != "application/json" or (request.content_length or 0) > _MAX_BYTES:
        return web.Response(status=400)
    try:
        fields = json.loads((await request.content.read(_MAX_BYTES + 1)).decode("utf-8"))
    except (ValueError, RecursionError):
        return web.Response(status=400)
    if not isinstance(fields, dict):
        return web.Response(status=400)
    return web.json_response(understand(fields))


async def _lists(request: web.Request) -> web.Response:
    """The lines of every list of concepts, by its name."""
    return web.json_response({name: list(lines) for name, lines in LISTS.items()})


def _told_of(describe_file: Callable[[str], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        """What the eraser file of that `name` is, or why it cannot be read."""
        name = request.query.get("name", "")
        try:
            # A slow disk holds nobody else up.
            return web.json_response({"description": await asyncio.to_thread(describe_file, name)})
        except RECEError as error:
            return web.json_response({"error": str(error)})

    return answer
