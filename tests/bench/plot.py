"""The chosen cases as bars: SVG for people, PNG for pages that show no SVG. Needs matplotlib (the extra `bench`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
    measured = [outcome for outcome in case.outcomes if outcome.values.get(figure)]
    spreads = [spread(outcome.values[figure]) for outcome in measured]
    names = [outcome.peer for outcome in measured]
    medians = [one.median for one in spreads]
    errors = [
        [one.median - one.least for one in spreads],
        [one.most - one.median for one in spreads],
    ]
    colours = [OURS if name.startswith("artisync") else OTHERS for name in names]
    axes.barh(names, medians, xerr=errors, color=colours, ecolor="#333333", capsize=2)
    axes.invert_yaxis()
    unit = case.figures[figure].unit
    better = "longer is better" if figure == "speed" else "shorter is better"
    axes.set_title(f"{case.name} ({unit}, {better})", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
