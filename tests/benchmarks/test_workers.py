"""The file of a table that is taken in several sittings, the memory counters, and an engine that fails."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def beside_the_script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def table(tmp_path):
    from workers import Table

    return lambda steps=5, rounds=2, again=False: Table(tmp_path / "table.json", steps, rounds, again)


def jobs(*engines, **changes):
    from engines import Job

    return [Job(engine, "float32", "smoke", 0.0, changes) for engine in engines]


def row(engine, **changes):
    fields = {"engine": engine, "shape": "smoke", "changes": changes, "precision": "float32", "dropout": 0.0}
    return {**fields, "steps": 5, "round_seconds": [1.0, 2.0]}


def test_a_later_sitting_keeps_what_was_measured(table):
    first = table()
    assert first.lacks(jobs("jax", "hf"))
    first.put([row("jax"), row("hf")])
    second = table()
    assert not second.lacks(jobs("jax", "hf"))
    assert not second.lacks(jobs("hf"))
    assert [found["engine"] for found in second.group(jobs("hf"))] == ["jax", "hf"]
    second.put([row("jax", batch_size=4)])
    assert table().rows == [row("jax"), row("hf"), row("jax", batch_size=4)]


def test_what_is_missing_or_was_measured_otherwise_is_measured_anew(table):
    table().put([row("jax")])
    assert table().lacks(jobs("jax", "hf"))
    assert table().lacks(jobs("jax", batch_size=4))
    assert table(steps=6).lacks(jobs("jax"))
    assert table(rounds=3).lacks(jobs("jax"))
    assert table(again=True).lacks(jobs("jax"))
    again = table(again=True)
    again.put([{**row("jax"), "round_seconds": [3.0, 4.0]}])
    assert [found["round_seconds"] for found in table().rows] == [[3.0, 4.0]]


def test_an_engine_is_added_by_measuring_those_of_its_group_again(table):
    table().put([row("jax"), row("hf"), row("torch", batch_size=4)])
    added = table()
    assert added.lacks(jobs("hf_gathered"))
    assert added.with_measured(jobs("hf_gathered", "hf")) == jobs("jax", "hf", "hf_gathered")
    assert added.with_measured(jobs("hf", batch_size=8)) == jobs("hf", batch_size=8)


def test_a_sitting_keeps_the_engines_that_it_was_not_asked_for(table, monkeypatch):
    import throughput

    table().put([{**row("jax"), "tokens_per_second": None}])
    path = table().path

    def measure(jobs, steps, rounds):
        return [{**row(job.engine), "tokens_per_second": None, "step_seconds": 1.0, "flops_per_second": 1e9} for job in jobs]

    monkeypatch.setattr(throughput, "measure", measure)
    words = ["--shapes", "smoke", "--engines", "torch", "--precisions", "float32", "--dropout", "0.0", "--steps", "5", "--rounds", "2"]
    monkeypatch.setattr("sys.argv", ["throughput.py", "--out", str(path), *words])
    throughput.main()
    assert [found["engine"] for found in table().rows] == ["jax", "torch"]


@pytest.mark.parametrize(("name", "value"), [("cores", 1_000), ("accelerator", "a GPU of another machine")])
def test_machines_are_not_mixed(table, name, value):
    table().put([row("jax")])
    path = table().path
    content = json.loads(path.read_text())
    content["machine"][name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=rf"other {name}; give another --out"):
        table()


def test_an_engine_that_fails_is_named():
    from workers import measure

    with pytest.raises(RuntimeError, match="no_such_engine"):
        measure(jobs("no_such_engine"), 1, 1)


def test_an_engine_that_does_not_see_the_gpu_measures_nothing(monkeypatch):
    import engines

    answers = []
    monkeypatch.setattr(engines, "take_answers", lambda: answers.append)
    monkeypatch.setattr(engines, "build", lambda job: lambda steps: 1.0)
    monkeypatch.setattr(engines.accelerator, "name", lambda: "NVIDIA A100")
    monkeypatch.setattr(engines.accelerator, "sees_gpu", lambda library: library == "torch")
    monkeypatch.setattr("sys.argv", ["engines.py", json.dumps(dataclasses.asdict(jobs("matmul_jax")[0]))])
    with pytest.raises(RuntimeError, match="NVIDIA A100, and jax"):
        engines.main()
    assert answers == []


def test_an_engine_that_ends_between_its_turns_is_named_and_closed(tmp_path, monkeypatch):
    import turns

    (tmp_path / "engine.py").write_text("print('{}', flush=True)\n")
    monkeypatch.setattr(turns, "__file__", str(tmp_path / "turns.py"))
    process = turns.EngineProcess("engine.py", {"engine": "tensorflow"}, {})
    assert process.answer() == {}
    process._process.wait()
    with pytest.raises(RuntimeError, match="process of tensorflow ended with code 0"):
        process.ask({"steps": 1})
    process.close()


def test_the_peak_starts_anew():
    import memory

    size = 64 * 2**20
    before = memory.resident_bytes()
    block = np.ones(size, np.uint8)
    assert memory.peak_bytes() - before > 0.9 * size
    del block
    memory.reset_peak()
    assert memory.peak_bytes() - before < 0.5 * size
