"""The table, the plots, the grid, and one HTML page with all of it, which opens without a server."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rece_pack.rece_ops.measures.rates import Rate

from tools.evaluation.chunks import Results, save_text
from tools.evaluation.pareto import Point, front, is_judged, points, save_plot
from tools.evaluation.summary import Columns, Line

TABLE, ROWS, PLOT, PARETO, GRID, PAGE = "table.md", "rows.csv", "rates.png", "pareto.png", "grid.png", "index.html"
IN_GRID, SIDE = 8, 96
_RED, _BLUE = "#c0392b", "#2c6fad"


def write_all(results: Results, lines: Sequence[Line], columns: Columns, title: str) -> Path:
    """Write everything into the results folder; returns the page's path."""
    folder = results.folder
    save_text(folder / TABLE, f"# {title}\n\n{markdown(lines, columns)}\n")
    save_text(folder / ROWS, _rows(results, lines, columns))
    _plot(folder / PLOT, lines, columns)
    found = points(lines, columns)
    save_plot(folder / PARETO, found, is_judged(lines, columns))
    _grid(folder / GRID, results, lines, columns)
    save_text(folder / PAGE, _page(folder, lines, columns, title, front(found)))
    return folder / PAGE


def shown(rate: Rate) -> str:
    """As in '38% (15–65)', in percent with its 95 % interval."""
    if not rate.trials:
        return "–"
    low, high = rate.interval()
    return f"{rate.share:.0%} ({100 * low:.0f}–{100 * high:.0f})"


def markdown(lines: Sequence[Line], columns: Columns) -> str:
    """The table."""
    heads = _heads(columns)
    rows = [_cells(line, columns) for line in lines]
    table = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in table)


def _heads(columns: Columns) -> list[str]:
    gone = [f"{name} ↓" for name in columns.erased]
    return ["erasure", *gone, *[f"{name} ↑" for name in columns.kept], "change ↓", "H_o ↑", "seconds", "size"]


def _cells(line: Line, columns: Columns) -> list[str]:
    harmonic = "–" if line.harmonic is None else f"{line.harmonic:.0%}"
    change = "–" if line.change is None else f"{line.change:.1%}"
    cost = [f"{line.seconds:.1f}", f"{line.size / 2**20:.1f} MiB"] if line.size else ["–", "–"]
    return [line.name, *(shown(line.rates[name]) for name in columns.all), change, harmonic, *cost]


def _rows(results: Results, lines: Sequence[Line], columns: Columns) -> str:
    """Every picture's row as CSV."""
    found = [
        {"erasure": line.name, "prompts": name, **row}
        for line in lines
        for name in columns.all
        for row in results.rows(line.name, name)
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
    """A row for each erasure: the first pictures of every set, the same prompts and seeds below each other."""
    from PIL import Image

    width = len(columns.all) * IN_GRID
    grid = Image.new("RGB", (width * SIDE, len(lines) * SIDE), "white")
    for down, line in enumerate(lines):
        for across, name in enumerate(columns.all):
            for place, row in enumerate(results.rows(line.name, name)[:IN_GRID]):
                with Image.open(results.folder / row["file"]) as picture:
                    grid.paste(
                        picture.convert("RGB").resize((SIDE, SIDE)), ((across * IN_GRID + place) * SIDE, down * SIDE)
                    )
    grid.save(path)


_STYLE = """body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.35rem .7rem;text-align:left}
img{max-width:100%}.scroll{overflow-x:auto}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181a1b}img{background:#fff}}"""


def _page(folder: Path, lines: Sequence[Line], columns: Columns, title: str, unbeaten: Sequence[Point]) -> str:
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in _heads(columns))
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in _cells(line, columns))}</tr>" for line in lines
    )
    order = ", ".join(html.escape(line.name) for line in lines)
    sets = ", ".join(html.escape(name) for name in columns.all)
    best = ", ".join(html.escape(point.name) for point in unbeaten)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<p>Shares of pictures, with 95 % Wilson intervals in percent. ↓: pictures that show the concept, fewer are better. ↑: pictures
that show all that their prompts say, more are better. H_o is the harmonic mean of what is gone under its own name and under
synonyms, and of what is kept; change is the mean difference of the kept sets' pixels from the unedited model. Every erasure is sampled with the same prompts and seeds.</p>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>
<h2>Rates</h2><img alt="Rates with their intervals" src="{_embedded(folder / PLOT)}">
<h2>What is left against what it costs</h2><img alt="A point for each erasure" src="{_embedded(folder / PARETO)}">
<p>Nearer to the lower left corner is better. No other erasure beats these in both: {best}.</p>
<h2>Pictures</h2><p>From top to bottom: {order}. From left to right, up to {IN_GRID} each: {sets}.</p>
<div class="scroll"><img alt="The first pictures of every set" src="{_embedded(folder / GRID)}" style="max-width:none"></div>
<p>Every picture's row is in {ROWS}, the table in {TABLE}, the pictures themselves in the folder pictures.</p>
</body></html>
"""


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
