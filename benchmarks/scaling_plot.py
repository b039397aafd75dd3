"""Draws what benchmarks/scaling.py measured: tokens per second above, memory below, a column for each size that changes."""

import os
import pathlib

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

AXES = {"batch_size": "examples a batch", "sequence_length": "tokens an example", "num_layers": "layers"}
FIGURES = {
    "tokens_per_second": ("tokens/s", 1.0),
    "flops_per_second": ("GFLOP/s the model needs", 1e9),
    "step_memory": ("memory of a step, MB", 1e6),
}


def draw(rows: list[dict], base: dict[str, int], title: str, path: str | os.PathLike) -> None:
    """Writes the plot.

    Args:
        rows: those of benchmarks/scaling.py, whose `changes` name at most one size.
        base: the sizes where nothing is changed.
        title: what is the same for all rows.
        path: SVG file to write.
    """
    axes = [axis for axis in AXES if any(axis in row["changes"] for row in rows)] or ["batch_size"]
    settings = {"svg.fonttype": "none", "svg.hashsalt": "scaling", "font.size": 9}
    with pyplot.rc_context(settings):
        size = (3.6 * len(axes) + 1.0, 2.4 * len(FIGURES) + 0.8)
        figure, panels = pyplot.subplots(len(FIGURES), len(axes), figsize=size, squeeze=False, sharey="row", layout="constrained")
        for line, (name, (label, unit)) in zip(panels, FIGURES.items(), strict=True):
            for panel, axis in zip(line, axes, strict=True):
                _draw_panel(panel, rows, axis, base[axis], name, unit)
            # Only now: a limit that is set ends the fitting of the shared axis to the panels after it.
            line[0].set_ylim(bottom=0)
            line[0].set_ylabel(label)
        for panel, axis in zip(panels[-1], axes, strict=True):
            panel.set_xlabel(AXES[axis])
        panels[0][0].legend(frameon=False, fontsize=8)
        figure.suptitle(title)
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def series(rows: list[dict], axis: str, own_size: int, name: str) -> dict[str, list[tuple[int, float]]]:
    """Returns for every engine the (size, value) pairs along one axis, the unchanged shape among them, by size."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if set(row["changes"]) <= {axis}:
            found.setdefault(row["engine"], []).append((row["changes"].get(axis, own_size), row[name]))
    return {engine: sorted(pairs) for engine, pairs in found.items()}


def _draw_panel(panel, rows, axis, own_size, name, unit):
    for engine, pairs in series(rows, axis, own_size, name).items():
        sizes, values = zip(*pairs, strict=True)
        # Solid lines are ours, dashed ones the peers'.
        panel.plot(
            sizes, [value / unit for value in values], "--" if engine.startswith("hf") else "-", marker="o", markersize=3, label=engine
        )
        panel.set_xscale("log", base=2)
        panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.grid(alpha=0.3)
