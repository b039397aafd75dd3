"""The speed run: its plan, its configurations, the merging of results, two trainings of seconds, and their discriminators compared."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from witnesses.corpora import write_corpus

from electra_keras.config import Config
from electra_keras.config_loading import flat_values, load_config
from electra_keras.errors import UserError
from electra_keras.files import locked_folder

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "speedrun.py"
TINY = ROOT / "configs" / "pretrain" / "tiny.yaml"


@pytest.fixture
def speedrun(monkeypatch):
    """The benchmark, whose modules lie beside the script."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    import speedrun

    return speedrun


@pytest.fixture
def planning(speedrun):
    import speedrun_plan

    return speedrun_plan


def test_the_plan_holds_both_recipes_a_third_of_the_budget_every_change_and_candidates(planning):
    names = [cell.name for cell in planning.plan(["builtin"], [4, 5], 30.0)]
    assert names[:6] == [
        "builtin/paper/30m/seed4",
        "builtin/modern/30m/seed4",
        "builtin/modern/10m/seed4",
        "builtin/paper/30m/seed5",
        "builtin/modern/30m/seed5",
        "builtin/modern/10m/seed5",
    ]
    changed = [*planning.ABLATIONS, *planning.ARCHITECTURES]
    others = [*(f"builtin/{name}/30m/seed4" for name in planning.BASELINES), *(f"builtin/{name}/10m/seed4" for name in changed)]
    others += [f"builtin/modern/3m/seed{seed}" for seed in (4, 5)] + [f"builtin/{name}/3m/seed4" for name in planning.CANDIDATES]
    assert names[6:] == others
    names = {cell.name for cell in planning.plan(["builtin", "en_wiki"], [0, 1, 2], 1.0)}
    assert len(names) == 2 * (9 + 1 + len(changed) + 3 + len(planning.CANDIDATES))


def test_cells_are_selected_by_pattern(planning):
    cells = planning.plan(["builtin", "en_wiki"], [0, 1], 30.0)
    assert planning.select(cells, []) == cells
    assert [cell.name for cell in planning.select(cells, ["*/paper/*seed1", "builtin/no_pmi/*"])] == [
        "builtin/paper/30m/seed1",
        "builtin/no_pmi/10m/seed0",
        "en_wiki/paper/30m/seed1",
    ]
    with pytest.raises(UserError, match=r"'builtin/papr/\*' fits no cell"):
        planning.select(cells, ["builtin/papr/*"])
    names = ["builtin/modern/10m/seed0", "builtin/modern/3m/seed0"]
    assert planning.matching(names, ["builtin/*/3m/*"]) == names[1:] and planning.matching(names, []) == names
    with pytest.raises(UserError, match=r"'\*/30m/\*' fits no cell, such as builtin/modern/10m/seed0; speedrun.py --list"):
        planning.matching(names, ["*/30m/*"])


def test_the_papers_cell_takes_the_shape_from_the_file_and_nothing_of_its_recipe(planning, tmp_path):
    path = tmp_path / "modern.yaml"
    lines = "optimizer: {generator_rate_multiplier: 2.0, warmup_steps: 7}\nobjective: {discriminator_weight: 9.0}\n"
    path.write_text(TINY.read_text(encoding="utf-8") + lines + "masking: {train: {mask_prob: 0.3}}\n", encoding="utf-8")
    paper = planning.variant_config(planning.VARIANTS["paper"], path, {"tokenizer.vocab_file": "v.txt"})
    file, found, defaults = flat_values(load_config(path)), flat_values(paper), flat_values(Config())
    departing = {name for name in found if found[name] != defaults[name]}
    assert departing == {
        "tokenizer.vocab_file",
        "tokenizer.vocab_size",
        "packing.sequence_length",
        "model.num_layers",
        "model.hidden_dim",
        "model.intermediate_dim",
        "model.max_positions",
        "model.generator_width_fraction",
        "model.generator_depth_fraction",
        "training.batch_size",
        "training.precision",
    }
    assert all(found[name] == file[name] for name in departing - {"tokenizer.vocab_file"})
    assert planning.variant_config(planning.VARIANTS["modern"], path, {}) == load_config(path)


def test_an_ablation_changes_its_ingredient_alone(planning):
    modern, paper = flat_values(load_config(TINY)), flat_values(Config())
    for name in planning.ABLATIONS:
        variant = planning.VARIANTS[name]
        found = flat_values(planning.variant_config(variant, TINY, {}))
        changed = {field for field in found if found[field] != modern[field]}
        assert changed == set(variant.overrides)
        assert bool(changed) != variant.scaled_warmup
        # What an ingredient is taken back to is the paper's; the rate goes with the optimizer.
        assert all(found[field] == paper[field] for field in changed - {"optimizer.learning_rate"})


def test_a_candidate_adds_to_the_modern_recipe_what_it_says(planning):
    modern = flat_values(load_config(TINY))
    for name in planning.CANDIDATES:
        variant = planning.VARIANTS[name]
        found = flat_values(planning.variant_config(variant, TINY, {}))
        assert {field for field in found if found[field] != modern[field]} == set(variant.overrides)
        assert variant.overrides or variant.beyond_configuration()
        if variant.opening and variant.opening.batch_size:
            assert 2 * variant.opening.batch_size == modern["training.batch_size"]
        if variant.opening and variant.opening.packing:
            settings = {**planning.PACKINGS[variant.opening.packing]}
            assert 2 * settings.pop("packing.sequence_length") == modern["packing.sequence_length"]
            assert settings.items() <= modern.items()
        # Held-out examples have the same masks for all.
        assert not any(field.startswith("masking.validation") for field in variant.overrides)


def test_a_length_sets_steps_reports_and_the_papers_warmup(planning):
    config = load_config(TINY)
    paper = planning.with_length(config, planning.VARIANTS["paper"], 12_340, 100, 3)
    assert (paper.training.num_steps, paper.training.seed, paper.optimizer.warmup_steps) == (12_340, 3, 123)
    assert (paper.training.log_every_steps, paper.training.validate_every_steps, paper.training.checkpoint_every_steps) == (100, 100, 200)
    modern = planning.with_length(config, planning.VARIANTS["modern"], 12_340, 100, 3)
    assert modern.optimizer == config.optimizer


def test_steps_fill_what_the_initialisation_leaves_of_the_budget(planning):
    assert planning.steps_within(10.0, 6.0, 0.15) == 3_960
    with pytest.raises(UserError, match=r"0.1 minutes are too few: initialisation takes 6.0 s"):
        planning.steps_within(0.1, 6.0, 0.15)
    assert planning.steps_between_validations(3_960, 0.15, 20.0) == 133
    assert planning.steps_between_validations(100, 0.15, 20.0) == 25
    assert planning.steps_between_validations(2, 0.15, 20.0) == 1


def test_settings_tell_recipes_apart_and_not_seeds_and_places(planning):
    variant = planning.VARIANTS["modern"]
    config = planning.variant_config(variant, TINY, {"tokenizer.vocab_file": "somewhere/vocab.txt", "corpus.files": ["a.txt"]})
    other = planning.with_length(planning.variant_config(variant, TINY, {}), variant, 17, 4, 9)
    assert planning.settings(config, variant) == planning.settings(other, variant)
    assert "optimizer.name: adamw -> muon" in planning.settings(config, variant)
    assert planning.settings(Config(), variant) == []
    short, zeros = (planning.settings(Config(), planning.VARIANTS[name]) for name in ("short_texts_first", "zero_outputs"))
    assert (short, zeros) == (["opening: {'packing': 'short_blocks'}"], ["zero_outputs: True"])


def test_merging_replaces_a_row_and_refuses_other_examples(speedrun):
    def row(corpus, digest, loss, packing="blocks", trained_on="t"):
        data = {"packing": packing, "sha256": trained_on}
        return {"corpus": corpus, "held_out_sha256": digest, "training_data": data, "loss": loss}

    cells = {"a": row("builtin", "x", 1.0), "b": row("builtin", "x", 2.0)}
    assert speedrun.merge(cells, "a", row("builtin", "x", 3.0)) == {"a": row("builtin", "x", 3.0), "b": row("builtin", "x", 2.0)}
    assert [*speedrun.merge(cells, "c", row("en_wiki", "y", 3.0, trained_on="u"))] == ["a", "b", "c"]
    assert [*speedrun.merge(cells, "c", row("builtin", "x", 3.0, "segments", "u"))] == ["a", "b", "c"]
    assert cells["a"]["loss"] == 1.0
    with pytest.raises(UserError, match="c was validated on other examples than a"):
        speedrun.merge(cells, "c", row("builtin", "y", 3.0))
    with pytest.raises(UserError, match=r"c was trained on other examples than a: .* packing of blocks .* Take a out"):
        speedrun.merge(cells, "c", row("builtin", "x", 3.0, trained_on="u"))


def test_results_of_another_machine_or_backend_are_refused(speedrun, tmp_path):
    machine = {"processor": "P", "cores": 2, "accelerator": None, "versions": {"keras": "3"}, "load_average_1m": 0.5}
    cells = {"a": {"machine": {**machine, "load_average_1m": 2.0}}, "b": {"machine": machine, "backend": "jax"}}
    speedrun.check_same_machine(tmp_path, cells, machine, "jax")
    with pytest.raises(UserError, match=r"measured with other cores, versions\. Give another --out"):
        speedrun.check_same_machine(tmp_path, cells, {**machine, "cores": 4, "versions": {"keras": "4"}}, "jax")
    for name in cells:
        with pytest.raises(UserError, match=r"measured with other backend\."):
            speedrun.check_same_machine(tmp_path, {name: cells[name]}, machine, "torch")


def test_a_vocabulary_is_that_of_the_text_and_of_the_configuration(speedrun, tmp_path):
    text, config = tmp_path / "corpus.txt", tmp_path / "small.yaml"
    write_corpus(text, documents=120)
    config.write_text(SMALL)

    def vocabulary():
        corpus = speedrun.Corpus("en_wiki", tmp_path / "data", os.fspath(config), [os.fspath(text)])
        assert len(corpus.prepared) == len(speedrun.PACKINGS)
        path = pathlib.Path(corpus.given["tokenizer.vocab_file"])
        return path.read_text(encoding="utf-8"), path.stat().st_mtime_ns

    first = vocabulary()
    assert vocabulary() == first
    text.write_text(text.read_text(encoding="utf-8").replace("e", "zq"), encoding="utf-8")
    assert "zq" not in first[0] and "zq" in vocabulary()[0]


def test_what_cannot_be_used_is_one_line(speedrun, tmp_path, monkeypatch, capsys):
    results = tmp_path / "other.json"
    results.write_text('{"rows": []}', encoding="utf-8")
    wrong = {
        "'nope' fits no cell": ["--out", "a.json", "--list", "--cells", "nope"],
        "other.json holds no results of speedrun.py": ["--out", os.fspath(results), "--list"],
        "There is no configuration file nowhere.yaml": ["--out", "a.json", "--config", "nowhere.yaml"],
    }
    for message, arguments in wrong.items():
        monkeypatch.setattr(sys, "argv", ["speedrun.py", *arguments])
        with pytest.raises(SystemExit, match=f"speedrun.py: .*{message}"):
            speedrun.main()
    monkeypatch.setattr(sys, "argv", ["speedrun.py", "--out", "a.json", "--config", os.fspath(TINY), "--work_dir", os.fspath(tmp_path)])
    with locked_folder(tmp_path, ""), pytest.raises(SystemExit, match="Another sitting"):
        speedrun.main()
    for option, value in {"budget_minutes": "0", "held_out_examples": "1", "calibration_steps": "5"}.items():
        with pytest.raises(SystemExit):
            speedrun.parse_arguments(["--out", "a.json", f"--{option}", value])
        assert f"--{option} is {value}; it must be at least" in capsys.readouterr().err


def test_the_plan_is_shown_with_the_time_that_is_left(speedrun, planning):
    cells = [planning.Cell("builtin", "paper", 30.0, 0), planning.Cell("builtin", "modern", 28.0, 0)]
    lines = speedrun.show(cells, {"builtin/modern/28m/seed0": {}}).splitlines()
    assert lines[0].split()[:3] == ["to", "do", "builtin/paper/30m/seed0"]
    assert lines[1].split()[:2] == ["done", "builtin/modern/28m/seed0"]
    assert lines[2] == f"1 of 2 cells to do, about {(30 + speedrun.MINUTES_AROUND_A_CELL) / 60:.1f} hours."


SMALL = """
corpus: {validation_fraction: 0.3}
packing: {sequence_length: 16}
model: {num_layers: 1, hidden_dim: 64, num_heads: 2, intermediate_dim: 16, embedding_dim: 64, generator_width_fraction: 0.5}
training: {batch_size: 4}
"""


def test_two_trainings_from_the_plan_to_the_plot(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    text, out, work = write_corpus(tmp_path / "corpus.txt", documents=120), tmp_path / "results" / "speedrun.json", tmp_path / "work"
    command = [sys.executable, SCRIPT, "--out", out, "--config", tmp_path / "small.yaml", "--work_dir", work, "--corpora", "en_wiki"]
    command += ["--wiki_files", text, "--seeds", "0", "--budget_minutes", "0.03", "--validate_every_seconds", "0.3"]
    command += ["--held_out_examples", "16", "--calibration_steps", "30", "--cells", "*/paper/*", "*/modern/0.03m/*"]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join([os.fspath(ROOT), *sys.path])}

    def run(*more):
        done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = run()
    result = json.loads(out.read_text(encoding="utf-8"))
    assert [*result["cells"]] == ["en_wiki/paper/0.03m/seed0", "en_wiki/modern/0.03m/seed0"]
    paper, modern = result["cells"].values()
    assert paper["held_out_sha256"] == modern["held_out_sha256"] and paper["held_out_examples"] == 16
    assert paper["num_parameters"] == modern["num_parameters"] > 1_000
    assert (paper["training_data"]["packing"], modern["training_data"]["packing"]) == ("segments", "blocks")
    assert paper["training_data"]["sha256"] != modern["training_data"]["sha256"]
    for row in (paper, modern):
        assert [*row["by_packing"]] == ["segments", "single_blocks"]
        assert len(row["curve"]) >= 4 and row["curve"][-1]["step"] == row["num_steps"]
        assert row["trained_minutes"] == row["curve"][-1]["minutes"] > 0
        assert all(np.isfinite(point["generator_loss"]) and 0 <= point["detection_auc"] <= 1 for point in row["curve"])
    assert [line["metric"] for line in result["summary"]["times_to_quality"]] == ["generator_loss", "detection_auc"]
    assert os.fspath(tmp_path) not in out.read_text(encoding="utf-8")
    assert "| en_wiki | generator_loss | paper | 0.03 |" in first
    assert out.with_suffix(".svg").read_text(encoding="utf-8").startswith("<?xml")
    # Taken up once more: what is there is skipped.
    second = run()
    assert second.count("there already\n") == 2
    assert json.loads(out.read_text(encoding="utf-8")) == result
    # A cell that is not in the results goes on from its run directory, which is finished here: nothing is trained again.
    (work / "cells" / "en_wiki/paper/0.03m/seed0/run-result.json").unlink()
    out.write_text(json.dumps({"cells": {"en_wiki/modern/0.03m/seed0": modern}}), encoding="utf-8")
    run()
    again = json.loads(out.read_text(encoding="utf-8"))["cells"]["en_wiki/paper/0.03m/seed0"]
    assert again["curve"] == paper["curve"] and again["calibration"] == paper["calibration"]
    # Both discriminators on the same replacements, those of the two generators.
    compare = [sys.executable, SCRIPT.with_name("speedrun_detection.py"), "--work_dir", work, "--out", tmp_path / "detection.json"]
    subprocess.run([*compare, "--results", out], env=environment, check=True, timeout=300)
    rows = json.loads((tmp_path / "detection.json").read_text(encoding="utf-8"))["en_wiki"]["discriminators"]
    assert [*rows] == ["en_wiki/modern/0.03m/seed0", "en_wiki/paper/0.03m/seed0"]
    for variant in ("modern", "paper"):
        name = f"en_wiki/{variant}/0.03m/seed0"
        found, validated = rows[name], json.loads((work / "cells" / name / "run" / "metrics.jsonl").read_text().splitlines()[-1])
        # Its own generator's replacements are those that it was validated on. The loss says so: the validation's AUC is of bins, in
        # which words of one logit, all that so short a training tells apart, are ties.
        assert found[variant]["detection_loss"] == pytest.approx(validated["val_detection_loss"], abs=1e-4)
        assert found["modern"] != found["paper"]
        assert all(0 < figures[figure] < 1 for figures in found.values() for figure in ("detection_auc", "average_precision"))
    others = {"num_steps": 1}, {"held_out_sha256": "0"}
    for other, reason in zip(others, ("not the training that the results tell of (1 steps)", "gives other held-out examples"), strict=True):
        out.write_text(json.dumps({"cells": {"en_wiki/paper/0.03m/seed0": {**paper, **other}}}), encoding="utf-8")
        failed = subprocess.run([*compare, "--results", out, "--generators", "paper"], env=environment, capture_output=True, text=True)
        assert failed.returncode == 1 and reason in failed.stderr


def test_the_generator_is_that_of_the_longest_training_and_the_lowest_seed(speedrun):
    import speedrun_detection

    def row(variant, minutes, seed, corpus="builtin"):
        return {"corpus": corpus, "variant": variant, "minutes": minutes, "seed": seed}

    rows = {"a": row("paper", 10, 0), "b": row("paper", 30, 2), "c": row("paper", 30, 1), "d": row("paper", 30, 0, "en_wiki")}
    assert speedrun_detection.generator_cell(rows, "builtin", "paper") == "c"
    with pytest.raises(UserError, match="no training of modern on builtin"):
        speedrun_detection.generator_cell(rows, "builtin", "modern")
