"""The list of architectures in docs/architectures.md, written from the table that the code goes by (`nodes/host/architectures/table.py`).

    python -m tools.architecture_table

Run it with the host's interpreter after any change to that table.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tools.host import REPOSITORY, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import PACK, import_pack

PAGE = REPOSITORY / "docs" / "architectures.md"
START, END = "<!-- written by python -m tools.architecture_table -->\n", "<!-- end of what it writes -->\n"
COLUMNS = ("architecture", "ComfyUI's model classes", "edited weights", "pooled text", "LoRA layer names", "exact")
# HiDream has a text stream for every layer of Llama that a model reads; one stands for all of them here.
ANY_LAYERS = {"llama_layers": [0]}


def updated(page: str) -> str:
    """`page` with the list as it should be; ComfyUI must be importable, and the pack imported."""
    families = importlib.import_module(f"{PACK}.nodes.host.architectures.table")
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    table = architecture_table(families.FAMILIES)
    return f"{before}{START}\n{table}\n\nRefused, with the reason:\n\n{refused(families.REFUSED)}\n\n{END}{after}"


def architecture_table(families: Iterable[Any]) -> str:
    """A line for each of `families`, in Markdown."""
    rows = (COLUMNS, ("---",) * len(COLUMNS), *map(_row, families))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def refused(reasons: Mapping[str, str]) -> str:
    """The model classes of every reason, in Markdown."""
    groups: dict[str, list[str]] = {}
    for model_class, reason in reasons.items():
        groups.setdefault(reason, []).append(model_class)
    return "\n".join(f"- {_code(classes)}: {reason}" for reason, classes in groups.items())


def _row(family: Any) -> tuple[str, ...]:
    streams = [stream for stream in family.streams_of(ANY_LAYERS) if not stream.pooled]
    parts = [part for stream in streams for part in stream.sources]
    names = "diffusers'" if family.unet else "ComfyUI's"
    return (
        family.name,
        _code(family.configurations),
        _projections(streams),
        _pooled(family),
        f"{names}, base `{family.base_version}`" if family.base_version else names,
        ", ".join(["yes", *_first(parts), *_unless(streams)]),
    )


def _projections(streams: Iterable[Any]) -> str:
    """Of every text stream, with its name where there are several."""
    listed = {re.sub(r"\.\d+$", ".N", stream.name): _code(map(_layer, stream.readers)) for stream in streams}
    return "; ".join(f"{name}: {layers}" if len(listed) > 1 else layers for name, layers in listed.items())


def _layer(pattern: str) -> str:
    """A regular expression as a person writes it, from the last numbered block on."""
    written = re.sub(r"\\d\+|(?<=\\\.)\d+(?=\\)", "N", pattern)
    written = re.sub(r"\(\?:([^)]*)\)", lambda found: "{" + found[1].replace("|", ",") + "}", written)
    written = re.sub(r"\[(\w+)\]", lambda found: "{" + ",".join(found[1]) + "}", written)
    return re.sub(r"^.*\.N\.(?=.*\.)", "….", _unescaped(written))


def _unescaped(pattern: str) -> str:
    return pattern.replace("\\", "")


def _pooled(family: Any) -> str:
    """What reads the pooled text, erased from as well; or what else reads the text and is left."""
    if family.pooled is None:
        return f"left: {family.leak}" if family.leak else "–"
    columns = f", first {family.pooled.columns} columns" if family.pooled.columns else ""
    return f"{_code(_unescaped(name) for name in family.pooled.readers)}{columns}"


def _first(parts: Iterable[Any]) -> list[str]:
    """What the tokens go through before they are read, from which T is derived."""
    layers = [getattr(part.stage, "layer", "learned padding") for part in parts if part.stage is not None]
    return [f"after {layer if ' ' in layer else f'`{layer}`'}" for layer in dict.fromkeys(layers)]


def _unless(streams: Iterable[Any]) -> list[str]:
    return [f"refused with `{_layer(stream.unless).removesuffix('..*')}`" for stream in streams if stream.unless]


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> None:
    """Write the list into the page."""
    make_importable(prepare_comfyui())
    import_pack()
    page = PAGE.read_text(encoding="utf-8")
    written = updated(page)
    PAGE.write_text(written, encoding="utf-8", newline="\n")
    print(f"{PAGE.name}: {'unchanged' if written == page else 'written'}")


if __name__ == "__main__":
    main()
