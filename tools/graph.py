"""Graphs for ComfyUI's API, written so that a test reads as what a person would wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Link = list[Any]
"""One output of a node, as ComfyUI's API writes it: ``[node id, output index]``."""


@dataclass(frozen=True)
class Node:
    """A node that was added to a graph; as the value of an input it stands for its first output."""

    id: str

    def out(self, index: int) -> Link:
        """The output number `index`."""
        return [self.id, index]

    def __str__(self) -> str:
        return self.id


class Graph:
    """A graph in the making; `prompt` is what ComfyUI's API takes."""

    def __init__(self) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}

    def node(self, class_type: str, /, **inputs: Any) -> Node:
        """Add a node; an input is a plain value, a `Node` (its first output) or a link from `Node.out`."""
        node = Node(str(len(self.prompt) + 1))
        self.prompt[node.id] = {
            "class_type": class_type,
            "inputs": {name: _as_input(value) for name, value in inputs.items()},
        }
        return node

    def load(self, checkpoint: str) -> Node:
        """Load a checkpoint: its outputs 0, 1 and 2 are the model, the text encoder and the VAE."""
        return self.node("CheckpointLoaderSimple", ckpt_name=checkpoint)

    def encode(self, text: str, clip: Node | Link) -> Node:
        """Encode a prompt."""
        return self.node("CLIPTextEncode", text=text, clip=clip)

    def save_lora(self, model: Node | Link, eraser: Node | Link, file_name: str, dtype: str = "float32") -> Node:
        """Save the whole of an ERASER as a LoRA for `model`, in place of a file that has the name."""
        return self.node(
            "RECE_SaveEraserAsLoRA",
            model=model,
            eraser=eraser,
            file_name=file_name,
            if_exists="replace",
            strength=1.0,
            max_rank=0,
            dtype=dtype,
        )

    def sample(
        self,
        checkpoint: Node,
        positive: str | Node | Link,
        *,
        model: Node | Link | None = None,
        clip: Node | Link | None = None,
        vae: Node | Link | None = None,
        latent: Node | None = None,
        seed: int = 0,
        steps: int = 2,
        cfg: float = 7.0,
        size: int = 64,
        sampler_name: str = "euler",
    ) -> Node:
        """Add everything from prompt to picture; returns the node that shows it.

        `positive` is a text or a conditioning; `model`, `clip` and `vae` replace those of the loaded `checkpoint`, and
        `latent` the picture of `size`.
        """
        clip = clip or checkpoint.out(1)
        samples = self.node(
            "KSampler",
            model=model or checkpoint.out(0),
            positive=self.encode(positive, clip) if isinstance(positive, str) else positive,
            negative=self.encode("", clip),
            latent_image=latent or self.node("EmptyLatentImage", width=size, height=size, batch_size=1),
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler_name=sampler_name,
            scheduler="normal",
            denoise=1.0,
        )
        return self.node("PreviewImage", images=self.node("VAEDecode", samples=samples, vae=vae or checkpoint.out(2)))


def _as_input(value: Any) -> Any:
    return value.out(0) if isinstance(value, Node) else value
