"""A custom node file without nodes: lets the server tell how much of its memory is in use.

Resident memory also counts what was freed and is kept for the next use. Whether something is held for good, only the
bytes in use can say: those of the C library's malloc (tensors among them), and the blocks of Python's own allocator.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

from aiohttp import web
from server import PromptServer  # type: ignore[import-not-found]  # the host's

NODE_CLASS_MAPPINGS: dict[str, Any] = {}

_FIELDS = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class _MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]


_libc = ctypes.CDLL("libc.so.6")
_libc.mallinfo2.restype = _MallInfo


@PromptServer.instance.routes.get("/soak/memory")  # type: ignore[untyped-decorator]
async def memory(request: web.Request) -> web.Response:
    """Bytes in use and blocks of Python; with `trim`, free memory goes back to the system first.

    The host's list of finished graphs, which grows with every graph by design, is emptied before.
    """
    PromptServer.instance.prompt_queue.wipe_history()
    gc.collect()
    if "trim" in request.query:
        _libc.malloc_trim(0)
    info = _libc.mallinfo2()
    return web.json_response({"in_use": info.uordblks + info.hblkhd, "blocks": sys.getallocatedblocks()})
