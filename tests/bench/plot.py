"""The chosen cases as bars: SVG for people, PNG for pages that show no SVG. Needs matplotlib (the extra `bench`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.peers import LOCAL
from tests.bench.results import CaseResult, spread

SHOWN = {
    "loopback": "speed",
    "wan-50": "speed",
    "wan-100": "speed",
    "torch-load": "time",
    "torch-mmap": "time",
    "safetensors": "time",
    "find": "time",
    "tensorboard": "time",
}
"""Which figure of which case; speeds are better long, times short."""
OURS, OTHERS = "#1b7837", "#9a9a9a"


def draw(cases: Mapping[str, CaseResult], paths: Sequence[Path]) -> bool:
    """Draw what there is of the shown cases into each of `paths`; False, and no file, when there is nothing to draw, or
    nothing to draw with."""
    chosen = [(cases[name], figure) for name, figure in SHOWN.items() if name in cases]
    if not chosen or importlib.util.find_spec("matplotlib") is None:
        return False
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "artisync"  # the same picture gives the same file
    columns = min(4, len(chosen))
    lines = -(-len(chosen) // columns)
    picture = Figure(figsize=(4 * columns, 2.6 * lines), layout="constrained")
    FigureCanvasAgg(picture)
    for number, (case, figure) in enumerate(chosen, 1):
        _bars(picture.add_subplot(lines, columns, number), case, figure)
    for path in paths:
        picture.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return True


def _bars(axes: Any, case: CaseResult, figure: str) -> None:
    """Medians as bars, ends as whiskers; where there is nothing, the reason. Local files would dwarf all other speeds."""
    shown = [outcome for outcome in case.outcomes if figure != "speed" or outcome.peer != LOCAL.name]
    for position, outcome in enumerate(shown):
        values = outcome.values.get(figure)
        if not values:
            axes.text(0, position, f" {outcome.note}", va="center", fontsize=7)
            continue
        median, least, most, _ = spread(values)
        colour = OURS if outcome.peer.startswith("artisync") else OTHERS
        axes.barh(position, median, xerr=[[median - least], [most - median]], color=colour, capsize=2)
    axes.set_yticks(range(len(shown)), [outcome.peer for outcome in shown])
    axes.invert_yaxis()
    better = "longer is better" if figure == "speed" else "shorter is better"
    axes.set_title(f"{case.name} ({case.figures[figure].unit}, {better})", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
