"""The table, the plots, the grid, and one HTML page with all of it, which opens without a server."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rece_pack.rece_ops.measures.rates import Rate

from tools.evaluation.chunks import Results, save_text
from tools.evaluation.columns import Columns
from tools.evaluation.pareto import Point, front, is_judged, points, save_plot
from tools.evaluation.summary import Line
from tools.evaluation.table import Told, by_class, heads, markdown, notes, record, rows

if TYPE_CHECKING:
    from torch import Tensor

TABLE, RECORD, ROWS = "table.md", "table.json", "rows.csv"
PLOT, PARETO, GRID, PAGE = "rates.png", "pareto.png", "grid.png", "index.html"
IN_GRID, SIDE = 8, 96
_CLASSES = "Pictures of the concept's prompts in which the detector found each class"
_RED, _BLUE = "#c0392b", "#2c6fad"


def write_all(results: Results, lines: Sequence[Line], columns: Columns, told: Told) -> Path:
    """Write everything into the results folder; returns the page's path."""
    folder = results.folder
    save_text(folder / TABLE, _text(lines, columns, told))
    save_text(folder / RECORD, json.dumps(record(lines, columns, told), ensure_ascii=False, indent=1))
    save_text(folder / ROWS, _rows(results, lines, columns))
    _plot(folder / PLOT, lines, columns)
    found = points(lines, columns)
    save_plot(folder / PARETO, found, is_judged(lines, columns))
    _grid(folder / GRID, results, lines, columns)
    save_text(folder / PAGE, _page(folder, lines, columns, told, front(found)))
    return folder / PAGE


def _text(lines: Sequence[Line], columns: Columns, told: Told) -> str:
    """The tables and their notes in Markdown."""
    classes = by_class(lines)
    parts = [
        f"# {told.title}",
        markdown([heads(lines, columns), *rows(lines, columns, told.published)]),
        *([_CLASSES, markdown(classes)] if classes else []),
        *notes(lines, columns, told),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(results: Results, lines: Sequence[Line], columns: Columns) -> str:
    """Every picture's row as CSV."""
    nothing: dict[str, Any] = {}
    found = [
        {"erasure": line.name, "prompts": name, **row, **more}
        for line in lines
        for name in columns.all
        for row, more in zip_longest(results.rows(line.name, name), line.rows.get(name, ()), fillvalue=nothing)
    ]
    text = io.StringIO()
    names = list(dict.fromkeys(key for row in found for key in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def _plot(path: Path, lines: Sequence[Line], columns: Columns) -> None:
    """Two panels: what is left of the concept, and what is left of the rest, with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 1.5 + 0.45 * len(lines) * max(len(columns.erased), len(columns.kept))), dpi=100)
    panels = figure.subplots(1, 2, sharey=False)
    for axes, names, colour, what in (
        (panels[0], columns.erased, _RED, "pictures that show the concept"),
        (panels[1], columns.kept, _BLUE, "pictures that show all that their prompts say"),
    ):
        _bars(axes, [(f"{line.name}: {name}", line.rates[name]) for name in names for line in lines], colour)
        axes.set_title(what)
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    path.write_bytes(picture.getvalue())


def _bars(axes: Any, rates: Sequence[tuple[str, Rate]], colour: str) -> None:
    measured = [(name, rate) for name, rate in rates if rate.trials]
    shares = [rate.share for _, rate in measured]
    ends = [rate.interval() for _, rate in measured]
    below = [max(share - low, 0) for share, (low, _) in zip(shares, ends, strict=True)]
    above = [max(high - share, 0) for share, (_, high) in zip(shares, ends, strict=True)]
    axes.barh(range(len(measured)), shares, color=colour, alpha=0.7, xerr=[below, above], capsize=2)
    axes.set_yticks(range(len(measured)), [name.replace("$", r"\$") for name, _ in measured], fontsize=8)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _grid(path: Path, results: Results, lines: Sequence[Line], columns: Columns) -> None:
    """Set by set, a row for each erasure: its first pictures, of the same prompts and seeds below each other."""
    import numpy as np
    from PIL import Image
    from rece_pack.nodes.reporting.grid import draw_grid

    found = [(name, line.name, results.rows(line.name, name)[:IN_GRID]) for name in columns.all for line in lines]
    shown = {f"{name} · {line}": first for name, line, first in found if first}
    pictures = [[_small(results.folder / row["file"]) for row in first] for first in shown.values()]
    grid = draw_grid(pictures, list(shown), [""] * IN_GRID).image[0]
    Image.fromarray((grid.numpy() * 255).round().astype(np.uint8)).save(path)


def _small(path: Path) -> Tensor:
    """The picture [SIDE, SIDE, 3], from 0 to 1."""
    import numpy as np
    import torch
    from PIL import Image

    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((SIDE, SIDE)), dtype=np.float32)
    return torch.from_numpy(pixels / 255)


_STYLE = """body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.35rem .7rem;text-align:left}td{white-space:nowrap}
img{max-width:100%}.scroll{overflow-x:auto}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181a1b}img{background:#fff}}"""


def _page(folder: Path, lines: Sequence[Line], columns: Columns, told: Told, unbeaten: Sequence[Point]) -> str:
    title, classes = told.title, by_class(lines)
    table = _table([heads(lines, columns), *rows(lines, columns, told.published)])
    counted = f"<h2>{_CLASSES}</h2>{_table(classes)}" if classes else ""
    said = "".join(f"<p>{html.escape(note)}</p>" for note in notes(lines, columns, told))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<p>Shares of pictures, with 95 % Wilson intervals in percent. ↓: pictures that show the concept, fewer are better. ↑: pictures
that show all that their prompts say, more are better. H_o is the harmonic mean of what is gone under its own name and under
synonyms, and of what is kept; change is the mean difference of the kept sets' pixels from the unedited model. Every erasure is sampled with the same prompts and seeds.</p>
{table}
{said}{counted}
<h2>Rates</h2><img alt="Rates with their intervals" src="{_embedded(folder / PLOT)}">
{_weighed(folder, unbeaten)}
<h2>Pictures</h2><p>Up to {IN_GRID} of every set, with the same prompts and seeds below each other.</p>
<img alt="The first pictures of every set" src="{_embedded(folder / GRID)}">
<p>Every picture's row is in {ROWS}, the table in {TABLE} and {RECORD}, the pictures themselves in the folder pictures.</p>
</body></html>
"""


def _weighed(folder: Path, unbeaten: Sequence[Point]) -> str:
    """The plot of what is left against what it costs, where anything was said of both."""
    if not unbeaten:
        return ""
    best = ", ".join(html.escape(point.name) for point in unbeaten)
    return f"""<h2>What is left against what it costs</h2>
<img alt="A point for each erasure" src="{_embedded(folder / PARETO)}">
<p>Nearer to the lower left corner is better. No other erasure beats these in both: {best}.</p>"""


def _table(found: Sequence[Sequence[str]]) -> str:
    """HTML of a table whose first row are its heads."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in found[0])
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in found[1:])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
