"""What the front end of this pack asks the server: nothing is kept, nothing is written; of files, only headers are read."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from ...rece_ops import RECEError
from ..request.concept_lists import LISTS
from ..request.live_parse import MAX_LIVE, understand

PARSE, CONCEPT_LISTS = "/rece/parse", "/rece/lists"
# Six fields of characters that JSON escapes as six bytes each.
_MAX_BYTES = 6 * 6 * MAX_LIVE


Question = Callable[[Mapping[str, str]], Mapping[str, Any]]
"""From the values after the '?' of an address to what is answered as JSON; may raise RECEError."""


def register_routes(questions: Mapping[str, Question]) -> None:
    """Add the routes of this pack; once, before the server starts.

    Args:
        questions: about files, by the route on which they are asked.
    """
    # A server that runs has imported itself; without one (tools, tests), importing it would start half of it.
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is None or any(getattr(route, "path", "") == PARSE for route in server.routes):
        return
    server.routes.post(PARSE)(_parse)
    server.routes.get(CONCEPT_LISTS)(_lists)
    for route, question in questions.items():
        server.routes.get(route)(_answering(question))


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


def _answering(question: Question) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        """What the question finds, or why the file cannot be read."""
        try:
            # A slow disk holds nobody else up.
            return web.json_response(await asyncio.to_thread(question, request.query))
        except RECEError as error:
            return web.json_response({"error": str(error)})
        except OSError as error:
            return web.json_response({"error": f"The file cannot be read: {error.strerror}."})

    return answer
