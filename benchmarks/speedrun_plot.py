"""The curves of the speed run: held-out loss and detection AUC over minutes, one row a corpus."""

import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {"generator_loss": "held-out masked-token loss (nats)", "detection_auc": "detection AUC"}
COLOURS = {"paper": "#b4451f", "paper_fast_rate": "#d69a3a", "modern": "#1f5fb4"}


def plot(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike, labels: Mapping[str, str]) -> None:
    """Draws every seed of the recipes that have a colour, at their longest budget, and the level at which the paper's recipe ends.

    Args:
        rows: the results' cells, at least one of a recipe.
        path: the image, .svg or .png.
        labels: variant -> its name in the legend.
    """
    import matplotlib

    matplotlib.use("Agg")
    # Without a fixed salt and date, the same figures would make another file every time.
    matplotlib.rcParams["svg.hashsalt"] = "speedrun"
    import matplotlib.pyplot as plt

    rows = longest_of_each(rows)
    corpora = list(dict.fromkeys(row["corpus"] for row in rows))
    figure, axes = plt.subplots(len(corpora), len(TITLES), figsize=(11, 3.8 * len(corpora)), squeeze=False, layout="constrained")
    for corpus, line_of_axes in zip(corpora, axes, strict=True):
        for (metric, title), ax in zip(TITLES.items(), line_of_axes, strict=True):
            _draw(ax, [row for row in rows if row["corpus"] == corpus], metric, labels)
            ax.set(title=f"{corpus}: {title}", xlabel="minutes of training")
            ax.grid(alpha=0.25)
            ax.legend(frameon=False, fontsize="small")
    metadata = {"Date": None} if os.fspath(path).endswith(".svg") else None
    figure.savefig(path, metadata=metadata, dpi=150)
    plt.close(figure)


def longest_of_each(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the rows of recipes with a colour that have their corpus' and variant's longest budget."""
    longest: dict[tuple[str, str], float] = {}
    for row in rows:
        key = row["corpus"], row["variant"]
        longest[key] = max(longest.get(key, 0.0), row["minutes"])
    return [row for row in rows if row["variant"] in COLOURS and row["minutes"] == longest[row["corpus"], row["variant"]]]


def _draw(ax: Any, rows: Sequence[Mapping[str, Any]], metric: str, labels: Mapping[str, str]) -> None:
    for variant, colour in COLOURS.items():
        curves = [row["curve"] for row in rows if row["variant"] == variant]
        for number, points in enumerate(curves):
            minutes, values = [point["minutes"] for point in points], [point[metric] for point in points]
            ax.plot(minutes, values, color=colour, linewidth=1.2, alpha=0.85, label=None if number else labels[variant])
        if variant == "paper" and curves:
            level = statistics.median(points[-1][metric] for points in curves)
            ax.axhline(level, color=colour, linestyle=":", linewidth=1, label=f"its end: {level:.3f}")
