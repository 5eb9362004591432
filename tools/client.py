"""A client of ComfyUI's HTTP and websocket interface, for tests: run a graph, see all that happened."""

from __future__ import annotations

import io
import json
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import websocket
from PIL import Image

TEXT_MESSAGE = 3
"""The kind of a binary websocket message that carries a node's status text."""

Picture = npt.NDArray[np.uint8]
"""[height, width, channels], in 8 bits."""

Event = dict[str, Any]
"""One message of the server: its ``type`` and its ``data``."""


class PromptRejected(Exception):
    """The server refused a graph; `node_errors` is its own account, by node id."""

    def __init__(self, error: Any, node_errors: dict[str, Any]) -> None:
        super().__init__(json.dumps({"error": error, "node_errors": node_errors}, indent=1))
        self.error = error
        self.node_errors = node_errors


class ExecutionError(Exception):
    """A node failed while the graph ran."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.node_id = str(data["node_id"])
        self.node_type = str(data["node_type"])
        self.exception_type = str(data["exception_type"])
        self.message = str(data["exception_message"]).strip()
        where = f"node {self.node_id} ({self.node_type})"
        super().__init__(f"{where}: {self.exception_type}: {self.message}\n{''.join(data['traceback'])}")


class ExecutionInterrupted(Exception):
    """The graph was interrupted while it ran."""


@dataclass(frozen=True)
class Progress:
    """One step of a node's progress bar."""

    node: str
    value: float
    max: float


@dataclass
class Result:
    """What came of one graph."""

    client: ComfyClient
    prompt_id: str
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the output nodes showed, by node id."""
    executed: list[str] = field(default_factory=list)
    """The nodes that ran, in order."""
    cached: list[str] = field(default_factory=list)
    """The nodes whose earlier results were used again."""
    progress: list[Progress] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """The status texts that nodes sent while they ran: node id and text."""

    def images(self, node: object) -> list[Picture]:
        """The pictures of a `Node` or node id, in order."""
        return [self.client.view(image) for image in self.outputs[str(node)]["images"]]


@dataclass
class _Run:
    """A graph that was submitted, as far as its messages were read."""

    result: Result
    failure: Exception | None = None
    finished: bool = False

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Keep what one message says."""
        match kind:
            case "execution_cached":
                self.result.cached.extend(data["nodes"])
            case "executing" if data["node"] is None:
                self.finished = True
            case "executing" if data["node"] not in self.result.executed:
                # A node that waited for something is announced again when it goes on.
                self.result.executed.append(data["node"])
            case "progress":
                self.result.progress.append(Progress(str(data["node"]), data["value"], data["max"]))
            case "progress_text":
                self.result.texts.append((data["node"], data["text"]))
            case "execution_error":
                self.failure = ExecutionError(data)
            case "execution_interrupted":
                self.failure = ExecutionInterrupted(f"interrupted at node {data['node_id']} ({data['node_type']})")


class ComfyClient:
    """Talks to the ComfyUI server at `address` (``host:port``); `connect` before the first graph."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._id = uuid.uuid4().hex
        self._socket = websocket.WebSocket()
        self._runs: dict[str, _Run] = {}
        self._current: str | None = None

    def connect(self) -> None:
        """Open the websocket over which the server reports."""
        self._socket.connect(f"ws://{self.address}/ws?clientId={self._id}", timeout=30)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the websocket."""
        self._socket.close()

    def run(self, graph: Mapping[str, Any], timeout: float = 300) -> Result:
        """Run a graph to its end (`Graph.prompt`)."""
        return self.wait(self.submit(graph), timeout)

    def submit(self, graph: Mapping[str, Any]) -> str:
        """Queue a graph and return its prompt id.

        Raises `PromptRejected` also where the server refuses only some of the output nodes and runs the rest.
        """
        try:
            answer = self.request("/prompt", {"prompt": graph, "client_id": self._id})
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            answer = json.loads(error.read())
        if answer.get("error") or answer.get("node_errors"):
            raise PromptRejected(answer.get("error"), answer.get("node_errors") or {})
        return str(answer["prompt_id"])

    def wait(
        self,
        prompt_id: str,
        timeout: float = 300,
        on_event: Callable[[Event], None] | None = None,
        *,
        of_silence: bool = False,
    ) -> Result:
        """Wait for the end of a submitted graph, handing each of its messages to `on_event` as it arrives.

        `timeout` is for all of it or, `of_silence`, for each message.
        """
        run = self._run(prompt_id)
        deadline = time.monotonic() + timeout
        while not run.finished:
            event = self._receive(deadline)
            if of_silence:
                deadline = time.monotonic() + timeout
            if event is not None and self._record(event) is run and on_event is not None:
                on_event(event)
        if run.failure is not None:
            raise run.failure
        run.result.outputs = self.request(f"/history/{prompt_id}")[prompt_id]["outputs"]
        return run.result

    def interrupt(self) -> None:
        """Stop the graph that runs."""
        self.request("/interrupt", {})

    def free(self) -> None:
        """Make the server unload all models and forget all results."""
        self.request("/free", {"unload_models": True, "free_memory": True})
        # The server looks at this request between two graphs, and may have taken up a next one before. Once this
        # small graph is through, no later one can come first.
        self.run(
            {
                "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
                "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
            }
        )

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """How the server describes one node type, or every one by name."""
        path = "/object_info" if node is None else f"/object_info/{urllib.parse.quote(node)}"
        found: dict[str, Any] = self.request(path)
        return found if node is None else found[node]

    def view(self, image: Mapping[str, str]) -> Picture:
        """One picture that an output node listed."""
        with self._open(f"/view?{urllib.parse.urlencode(image)}") as response:
            return np.asarray(Image.open(io.BytesIO(response.read())))

    def request(self, path: str, body: Any = None) -> Any:
        """GET `path`, or POST `body` to it as JSON; returns the decoded answer, None where it is empty."""
        with self._open(path, body) as response:
            text = response.read()
        return json.loads(text) if text else None

    def connection_lost(self) -> Exception:
        """What to raise when the server does not answer any more."""
        return ConnectionError(f"the ComfyUI server at {self.address} closed the connection")

    def _open(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.address}{path}", data=data, headers={"Content-Type": "application/json"}
        )
        return urllib.request.urlopen(request, timeout=60)

    def _run(self, prompt_id: str) -> _Run:
        return self._runs.setdefault(prompt_id, _Run(Result(self, prompt_id)))

    def _receive(self, deadline: float) -> Event | None:
        """The server's next message; None for one that tells tests nothing."""
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            message = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            raise TimeoutError("the graph did not end in time") from None
        except (websocket.WebSocketException, OSError) as error:
            raise self.connection_lost() from error
        if isinstance(message, str):
            # An empty text is how the client library reports that the connection was closed.
            if not message:
                raise self.connection_lost()
            event: Event = json.loads(message)
            return event
        return _text_event(message)

    def _record(self, event: Event) -> _Run | None:
        """Keep what a message says with the run it belongs to, and return that run."""
        data = event.get("data") or {}
        # A status text does not name its prompt, but only one prompt runs at a time.
        prompt_id = data.get("prompt_id") or (self._current if event["type"] == "progress_text" else None)
        if prompt_id is None:
            return None
        run = self._run(prompt_id)
        if event["type"] == "execution_start":
            self._current = prompt_id
        run.record(event["type"], data)
        return run


def _text_event(message: bytes) -> Event | None:
    kind, length = struct.unpack_from(">II", message)
    if kind != TEXT_MESSAGE:
        return None
    node, text = message[8 : 8 + length].decode(), message[8 + length :].decode()
    return {"type": "progress_text", "data": {"node": node, "text": text}}
