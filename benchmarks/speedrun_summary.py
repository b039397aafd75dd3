"""From the lines of a training to its curve, and from the curves to the times that the recipes needed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from electra_keras.errors import UserError

Point = Mapping[str, float]
# Metric -> whether less is better.
METRICS = {"generator_loss": True, "detection_auc": False}


class Report(NamedTuple):
    """The steps of one line of training metrics, what they took, and whether they are of an opening of other steps than the rest."""

    steps: int
    seconds: float
    has_compilation: bool
    is_opening: bool


def typical_step_seconds(lines: Sequence[Mapping[str, Any]]) -> float:
    """Returns the median over the reports of their seconds a step, those with compilation left out.

    Where a training has an opening of other steps, both medians count by their shares of the steps.

    Raises:
        UserError: every report of a part has compilation in it.
    """
    reports = _reports(lines)
    typical = _typical_seconds(reports)
    return sum(report.steps * typical[report.is_opening] for report in reports) / sum(report.steps for report in reports)


def _typical_seconds(reports: Sequence[Report]) -> dict[bool, float]:
    """Returns, for the opening (True) and the rest (False), as far as there are any, the median of the seconds a step."""
    seconds: dict[bool, list[float]] = {report.is_opening: [] for report in reports}
    for report in reports:
        if not report.has_compilation:
            seconds[report.is_opening].append(report.seconds / report.steps)
    if not all(seconds.values()):
        raise UserError("Every report of the training, or of its opening, holds a compilation; it needs more steps.")
    return {is_opening: statistics.median(found) for is_opening, found in seconds.items()}


def typical_speed(lines: Sequence[Mapping[str, Any]]) -> float:
    """Returns the median over the reports of their tokens a second, those with compilation left out."""
    return statistics.median(line["tokens"] / line["seconds"] for line in lines if "seconds" in line and not line["has_compilation"])


def curve(lines: Sequence[Mapping[str, Any]], initialization_seconds: float) -> list[dict[str, float]]:
    """Returns the held-out figures against minutes of initialisation and training.

    A report with compilation in it counts as if its steps had taken the typical time.

    Args:
        lines: of metrics.jsonl, with `seconds` and `has_compilation`; a report stands before the validation of the same step.
        initialization_seconds: what the starting values took.
    """
    reports = _reports(lines)
    typical = _typical_seconds(reports)
    ends, step, elapsed = {}, 0, initialization_seconds
    for report in reports:
        step += report.steps
        elapsed += report.steps * typical[report.is_opening] if report.has_compilation else report.seconds
        ends[step] = elapsed / 60.0
    return [
        {"step": line["step"], "minutes": round(ends[line["step"]], 4), **{metric: line[f"val_{metric}"] for metric in METRICS}}
        for line in lines
        if "val_generator_loss" in line
    ]


def _reports(lines: Sequence[Mapping[str, Any]]) -> list[Report]:
    trained = [line for line in lines if "seconds" in line]
    before = [0, *(line["step"] for line in trained)]
    return [
        Report(line["step"] - step, line["seconds"], line["has_compilation"], line.get("opening", False))
        for step, line in zip(before, trained, strict=False)
    ]


def reached_for_good(points: Sequence[Point], metric: str, threshold: float) -> float | None:
    """Returns the minutes of the validation from which on all are at least as good as the threshold, None where there is none.

    For good, because an untrained generator's replacements are easy to detect: the AUC starts high and falls before it rises. Not
    interpolated: a time that was measured, at worst one validation late.
    """
    sign = 1.0 if METRICS[metric] else -1.0
    minutes = None
    for point in reversed(points):
        if sign * point[metric] > sign * threshold:
            break
        minutes = point["minutes"]
    return minutes


def times_to_quality(rows: Sequence[Mapping[str, Any]], reference: str = "paper", contender: str = "modern") -> list[dict[str, Any]]:
    """Compares when the contender is where the reference ends.

    Seeds are compared one by one, and medians taken over those that both have; a seed that never gets there counts as infinitely late.

    Args:
        rows: the results' cells.
        reference: the variant whose last validation sets the threshold.
        contender: the variant that is to be as good, at every budget it was trained with.
    """
    results = []
    for corpus in _distinct(rows, "corpus"):
        for metric in METRICS:
            ours = [row for row in rows if row["corpus"] == corpus]
            references = [row for row in ours if row["variant"] == reference]
            longest = max((row["minutes"] for row in references), default=None)
            ends = {row["seed"]: row["curve"][-1] for row in references if row["minutes"] == longest}
            contenders = [row for row in ours if row["variant"] == contender and row["seed"] in ends]
            for minutes in sorted({row["minutes"] for row in contenders}, reverse=True):
                matched = {row["seed"]: row["curve"] for row in contenders if row["minutes"] == minutes}
                place = {"corpus": corpus, "metric": metric, "reference": reference, "contender": contender}
                budgets = {"reference_minutes": longest, "contender_minutes": minutes}
                results.append({**place, **budgets, **_compare_seeds(matched, ends, metric)})
    return results


def _compare_seeds(curves: Mapping[int, Sequence[Point]], ends: Mapping[int, Point], metric: str) -> dict[str, Any]:
    seeds = sorted(curves)
    reached = [reached_for_good(curves[seed], metric, ends[seed][metric]) for seed in seeds]
    late = [math.inf if minutes is None else minutes for minutes in reached]
    median = statistics.median(late)
    ratio = statistics.median(ends[seed]["minutes"] / minutes for seed, minutes in zip(seeds, late, strict=True))
    return {
        "seeds": seeds,
        "threshold": round(statistics.median(ends[seed][metric] for seed in seeds), 4),
        "contender_end": round(statistics.median(curves[seed][-1][metric] for seed in seeds), 4),
        "reached_minutes": None if math.isinf(median) else round(median, 3),
        "reached_minutes_by_seed": reached,
        "ratio": None if math.isinf(median) else round(ratio, 2),
    }


def changes(rows: Sequence[Mapping[str, Any]], variants: Sequence[str], recipe: str = "modern") -> list[dict[str, Any]]:
    """Compares the ends of trainings with those of a recipe, at the same budget, on the seeds that both have.

    Args:
        rows: the results' cells.
        variants: those that lack something of the recipe, or have something more.
        recipe: what they are compared with.
    """
    ends = {(row["corpus"], row["variant"], row["minutes"], row["seed"]): row for row in rows}
    groups: dict[tuple, list[int]] = {}
    for corpus, variant, minutes, seed in ends:
        if variant in variants and (corpus, recipe, minutes, seed) in ends:
            groups.setdefault((corpus, variant, minutes), []).append(seed)
    results = []
    for (corpus, variant, minutes), seeds in groups.items():
        pairs = [(ends[corpus, variant, minutes, seed], ends[corpus, recipe, minutes, seed]) for seed in seeds]
        row = {"corpus": corpus, "variant": variant, "minutes": minutes, "seeds": sorted(seeds)}
        for metric in METRICS:
            row[metric] = round(statistics.median(changed["curve"][-1][metric] for changed, _ in pairs), 4)
            row[f"{metric}_change"] = round(
                statistics.median(changed["curve"][-1][metric] - whole["curve"][-1][metric] for changed, whole in pairs), 4
            )
        row["steps_ratio"] = round(statistics.median(changed["num_steps"] / whole["num_steps"] for changed, whole in pairs), 3)
        results.append(row)
    return results


def _distinct(rows: Sequence[Mapping[str, Any]], field: str) -> list[Any]:
    return list(dict.fromkeys(row[field] for row in rows))


def table(times: Sequence[Mapping[str, Any]], changed: Sequence[Mapping[str, Any]]) -> str:
    """Formats both comparisons as Markdown."""
    lines = [
        "| corpus | metric | reference | at minute | its value | modern, budget | reached at minute | ratio | at its end |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in times:
        reached = ("not reached", "-") if row["reached_minutes"] is None else (f"{row['reached_minutes']:.2f}", f"{row['ratio']:.2f}")
        lines.append(
            f"| {row['corpus']} | {row['metric']} | {row['reference']} | {row['reference_minutes']:g} | {row['threshold']:.4f} "
            f"| {row['contender_minutes']:g} | {reached[0]} | {reached[1]} | {row['contender_end']:.4f} |"
        )
    lines += ["", "| corpus | changed | minutes | held-out loss | change | AUC | change | steps |", "|---|---|---|---|---|---|---|---|"]
    for row in changed:
        figures = " | ".join(f"{row[metric]:.4f} | {row[f'{metric}_change']:+.4f}" for metric in METRICS)
        lines.append(f"| {row['corpus']} | {row['variant']} | {row['minutes']:g} | {figures} | {row['steps_ratio']:.2f} |")
    return "\n".join(lines)
