"""Curves and times of the speed run against values worked out by hand."""

import pathlib

import pytest

from electra_keras.errors import UserError

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def summary(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import speedrun_summary

    return speedrun_summary


def trained(step, seconds, has_compilation=False):
    return {"step": step, "tokens": 60.0, "seconds": seconds, "has_compilation": has_compilation}


def validated(step, loss, auc):
    return {"step": step, "val_generator_loss": loss, "val_detection_auc": auc, "val_precision": 0.5}


def point(minutes, loss, auc):
    return {"step": round(10 * minutes), "minutes": minutes, "generator_loss": loss, "detection_auc": auc}


def row(variant, minutes, seed, points, corpus="builtin", num_steps=100):
    return {"corpus": corpus, "variant": variant, "minutes": minutes, "seed": seed, "curve": points, "num_steps": num_steps}


def test_a_report_with_compilation_counts_at_the_typical_speed(summary):
    lines = [
        trained(10, 90.0, has_compilation=True),
        validated(10, 6.0, 0.5),
        trained(20, 20.0),
        validated(20, 5.0, 0.6),
        # A second process has gone on from step 20.
        trained(25, 70.0, has_compilation=True),
        trained(35, 40.0),
        trained(38, 9.0),
        validated(38, 4.0, 0.7),
    ]
    # Seconds a step: 2, 4 and 3; their median 3 stands for the steps of both compilations, 10 and 5.
    assert summary.typical_step_seconds(lines) == 3.0
    # 60 tokens in 20, 40 and 9 seconds.
    assert summary.typical_speed(lines) == 3.0
    minutes = [(12 + 30) / 60, (12 + 30 + 20) / 60, (12 + 30 + 20 + 15 + 40 + 9) / 60]
    assert summary.curve(lines, 12.0) == [
        {"step": 10, "minutes": pytest.approx(minutes[0], abs=1e-4), "generator_loss": 6.0, "detection_auc": 0.5},
        {"step": 20, "minutes": pytest.approx(minutes[1], abs=1e-4), "generator_loss": 5.0, "detection_auc": 0.6},
        {"step": 38, "minutes": pytest.approx(minutes[2], abs=1e-4), "generator_loss": 4.0, "detection_auc": 0.7},
    ]
    with pytest.raises(UserError, match="needs more steps"):
        summary.curve(lines[:2], 0.0)


def test_an_opening_has_a_typical_speed_of_its_own(summary):
    opening = [{**trained(4, 50.0, has_compilation=True), "opening": True}, {**trained(6, 2.0), "opening": True}]
    lines = [*opening, trained(10, 70.0, has_compilation=True), validated(10, 6.0, 0.5), trained(20, 30.0), validated(20, 5.0, 0.6)]
    # Six steps of 1 second and fourteen of 3.
    assert summary.typical_step_seconds(lines) == (6 + 42) / 20
    assert [point["minutes"] for point in summary.curve(lines, 0.0)] == [
        pytest.approx((6 + 12) / 60, abs=1e-4),
        pytest.approx(48 / 60, abs=1e-4),
    ]
    with pytest.raises(UserError, match="or of its opening"):
        summary.typical_step_seconds(lines[:3])


def test_the_validation_counts_from_which_on_all_are_as_good(summary):
    points = [point(1, 6.0, 0.5), point(2, 4.9, 0.61), point(3, 5.1, 0.6), point(4, 4.0, 0.7)]
    assert summary.reached_for_good(points, "generator_loss", 5.0) == 4
    assert summary.reached_for_good(points, "generator_loss", 5.1) == 2
    assert summary.reached_for_good(points, "generator_loss", 3.9) is None
    assert summary.reached_for_good(points, "detection_auc", 0.6) == 2
    assert summary.reached_for_good(points, "detection_auc", 0.65) == 4
    assert summary.reached_for_good(points, "detection_auc", 0.71) is None


def test_times_are_medians_over_the_seeds_that_both_have(summary):
    rows = [
        # The paper's ends at minute 30: losses 5.0, 4.8 and 4.6. A shorter training of it does not count.
        *(row("paper", 30.0, seed, [point(15, 5.5, 0.5), point(30, 5.0 - 0.2 * seed, 0.6)]) for seed in range(3)),
        row("paper", 10.0, 0, [point(10, 7.0, 0.5)]),
        # The modern one is there at minutes 5, 6 and never.
        row("modern", 30.0, 0, [point(5, 4.9, 0.5), point(30, 4.0, 0.7)]),
        row("modern", 30.0, 1, [point(5, 4.9, 0.6), point(6, 4.8, 0.7), point(30, 4.1, 0.7)]),
        row("modern", 30.0, 2, [point(5, 4.9, 0.6), point(30, 4.7, 0.7)]),
        row("modern", 30.0, 9, [point(1, 1.0, 0.9)]),
        row("modern", 10.0, 0, [point(5, 5.1, 0.4), point(10, 4.5, 0.5)]),
        row("modern", 10.0, 0, [point(5, 1.0, 1.0)], corpus="en_wiki"),
    ]
    loss, short, auc, short_auc = summary.times_to_quality(rows)
    assert (loss["metric"], loss["contender_minutes"], loss["seeds"]) == ("generator_loss", 30.0, [0, 1, 2])
    assert loss["reached_minutes_by_seed"] == [5, 6, None]
    assert (loss["threshold"], loss["reached_minutes"], loss["contender_end"]) == (4.8, 6, 4.1)
    # Ratios 6, 5 and 0.
    assert loss["ratio"] == 5.0
    assert (short["contender_minutes"], short["seeds"], short["reached_minutes"], short["ratio"]) == (10.0, [0], 10, 3.0)
    assert (auc["metric"], auc["reached_minutes_by_seed"], auc["reached_minutes"], auc["ratio"]) == ("detection_auc", [30, 5, 5], 5, 6.0)
    assert (short_auc["reached_minutes"], short_auc["ratio"]) == (None, None)


def test_nothing_is_compared_where_a_recipe_is_missing(summary):
    assert summary.times_to_quality([row("modern", 30.0, 0, [point(1, 1.0, 0.9)])]) == []
    assert summary.times_to_quality([row("paper", 30.0, 0, [point(1, 1.0, 0.9)]), row("modern", 30.0, 1, [point(1, 1.0, 0.9)])]) == []


def test_an_ablation_is_compared_at_its_budget_on_its_seeds(summary):
    rows = [
        row("modern", 10.0, 0, [point(5, 9.0, 0.1), point(10, 4.0, 0.7)], num_steps=200),
        row("modern", 10.0, 1, [point(10, 1.0, 1.0)]),
        row("modern", 30.0, 0, [point(30, 3.0, 0.8)]),
        row("no_pmi", 10.0, 0, [point(10, 4.25, 0.65)], num_steps=190),
        row("no_muon", 30.0, 1, [point(30, 4.0, 0.8)]),
    ]
    assert summary.changes(rows, ["no_pmi", "no_muon"]) == [
        {
            "corpus": "builtin",
            "variant": "no_pmi",
            "minutes": 10.0,
            "seeds": [0],
            "generator_loss": 4.25,
            "generator_loss_change": 0.25,
            "detection_auc": 0.65,
            "detection_auc_change": -0.05,
            "steps_ratio": 0.95,
        }
    ]


def test_the_table_says_what_was_not_reached(summary):
    rows = [
        row("paper", 30.0, 0, [point(30, 4.0, 0.6)]),
        row("modern", 30.0, 0, [point(5, 4.0, 0.5), point(30, 3.5, 0.55)]),
        row("no_pmi", 30.0, 0, [point(30, 3.75, 0.5)]),
    ]
    lines = summary.table(summary.times_to_quality(rows), summary.changes(rows, ["no_pmi"])).splitlines()
    assert lines[2] == "| builtin | generator_loss | paper | 30 | 4.0000 | 30 | 5.00 | 6.00 | 3.5000 |"
    assert lines[3] == "| builtin | detection_auc | paper | 30 | 0.6000 | 30 | not reached | - | 0.5500 |"
    assert lines[7] == "| builtin | no_pmi | 30 | 3.7500 | +0.2500 | 0.5000 | -0.0500 | 1.00 |"


def test_the_plot_takes_the_longest_training_of_every_recipe_and_no_ablation(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import speedrun_plot

    rows = [
        row("paper", 30.0, 0, [point(30, 4.0, 0.6)]),
        row("modern", 30.0, 0, [point(15, 4.5, 0.5), point(30, 3.5, 0.7)]),
        row("modern", 10.0, 0, [point(10, 3.9, 0.6)]),
        row("no_pmi", 40.0, 0, [point(30, 3.75, 0.5)]),
        row("modern", 10.0, 0, [point(10, 3.9, 0.6)], corpus="en_wiki"),
        row("paper_fast_rate", 30.0, 0, [point(30, 3.8, 0.5)]),
    ]
    chosen = speedrun_plot.longest_of_each(rows)
    assert chosen == [rows[0], rows[1], rows[4], rows[5]]
    labels = {"paper": "the paper's recipe", "paper_fast_rate": "at 4 times its rate", "modern": "the modern recipe"}
    speedrun_plot.plot(rows, tmp_path / "a.svg", labels)
    speedrun_plot.plot(rows, tmp_path / "b.svg", labels)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    speedrun_plot.plot(rows, tmp_path / "c.png", labels)
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
