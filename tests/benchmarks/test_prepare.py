import json
import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "prepare.py"


def test_rows_compare_prepare_with_encode_batch_on_the_same_text(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"The cat number {number} sat on a mat.\nThe dog ran." for number in range(500)))
    command = [sys.executable, SCRIPT, "--out", tmp_path / "out.json", "--files", corpus, "--vocab_size", "64"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    result = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in result["rows"]] == [
        "prepare, vocabulary trained",
        "prepare, vocabulary given, segments",
        "prepare, vocabulary given, blocks",
        "encode_batch alone",
    ]
    assert {row["documents"] for row in result["rows"]} == {500}
    assert all(row["seconds"] > 0 and row["megabytes_per_second"] > 0 for row in result["rows"])
    assert all(row["peak_memory_megabytes"] > 20 for row in result["rows"][:3])
