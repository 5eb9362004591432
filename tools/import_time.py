"""How long the pack takes to import in a ComfyUI that has imported its own modules, its list of nodes included.

    python -m tools.import_time

To be run by the host's interpreter; each of several fresh processes measures once, and the median counts.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time

from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import PACK, import_pack

RUNS = 3
# What ComfyUI has imported when it comes to custom nodes (its extras among it), without a server.
HOST_MODULES = (
    "nodes",
    "aiohttp.web",
    "comfy_api.latest",
    "comfy.sample",
    "comfy.samplers",
    "comfy.weight_adapter",
    "comfy_extras.nodes_hooks",
    "latent_preview",
)
ONCE = "--once"


def measure() -> float:
    """Milliseconds of CPU time in this process, which must be fresh; the clock on the wall counts what else the machine does."""
    make_importable(prepare_comfyui())
    for name in HOST_MODULES:
        importlib.import_module(name)
    before = time.process_time()
    import_pack()
    extension = importlib.import_module(f"{PACK}.nodes.extension").RECEExtension()
    nodes = asyncio.run(extension.get_node_list())
    for node in nodes:
        node.GET_SCHEMA()
    return 1000 * (time.process_time() - before)


def main() -> int:
    """Run from the command line."""
    if ONCE in sys.argv:
        print(f"{measure():.1f}")
        return 0
    command = [sys.executable, "-m", "tools.import_time", ONCE]
    with tempfile.TemporaryDirectory() as compiled:
        # As it is from the second start on, and whatever this shell says of compiled files.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}
        outputs = [
            subprocess.run(
                command, check=True, capture_output=True, text=True, encoding="utf-8", env=environment
            ).stdout
            for _ in range(RUNS + 1)
        ]
    found = [float(output.split()[-1]) for output in outputs[1:]]
    print(f"{statistics.median(found):.0f} ms of CPU time (median of {', '.join(f'{one:.0f}' for one in found)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
