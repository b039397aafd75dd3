"""The rows of a results file of the speed run: read, held against this machine, and merged."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from machine import differences

from electra_keras.backend import DEFAULT_BACKEND
from electra_keras.errors import UserError


def read_cells(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Returns name -> row of the results that are there.

    Raises:
        UserError: the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no results of speedrun.py. Name another file.") from error


def check_same_machine(path: pathlib.Path, cells: Mapping[str, Mapping[str, Any]], machine: Mapping[str, Any], backend: str) -> None:
    """Raises UserError where results are of another machine or backend, whose minutes are not this one's."""
    for row in cells.values():
        # Rows of earlier versions do not say their backend; it was the default.
        other_backend = ["backend"] if row.get("backend", DEFAULT_BACKEND) != backend else []
        if changed := differences(row["machine"], machine) + other_backend:
            raise UserError(f"{path} was measured with other {', '.join(changed)}. Give another --out.")


def merge(cells: Mapping[str, dict[str, Any]], name: str, row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the rows with a new one, in the place of an older of its name.

    Raises:
        UserError: it was trained or validated on other examples than the rest of its corpus.
    """
    merged = {**cells, name: row}
    for other, old in merged.items():
        if old["corpus"] != row["corpus"]:
            continue
        if old["held_out_sha256"] != row["held_out_sha256"]:
            raise UserError(f"{name} was validated on other examples than {other}: text or vocabulary have changed. Use another --out.")
        ours, theirs = row["training_data"], old["training_data"]
        if ours["packing"] == theirs["packing"] and ours["sha256"] != theirs["sha256"]:
            raise UserError(
                f"{name} was trained on other examples than {other}: text, vocabulary or the packing of {ours['packing']} have changed. "
                f"Take {other} out of the results, or use another --out."
            )
    return merged
