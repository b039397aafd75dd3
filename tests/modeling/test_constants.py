import ast
import pathlib
import subprocess
import sys

import electra_keras
from electra_keras.modeling import constants

PACKAGE = pathlib.Path(electra_keras.__file__).parent


def names_set_in(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def test_the_constants_stand_in_one_place():
    names = {name for name in vars(constants) if name.isupper()}
    assert names == {"NUM_SEGMENTS", "LAYER_NORM_EPSILON", "MASKED_SCORE"}
    assert [path.name for path in PACKAGE.rglob("*.py") if names & set(names_set_in(path))] == ["constants.py"]


def test_what_needs_no_models_gets_them_without_keras():
    program = (
        "import sys, electra_keras.modeling.constants, electra_keras.interop.layout; "
        "print([name for name in ('keras', 'jax', 'tensorflow', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "[]\n"
