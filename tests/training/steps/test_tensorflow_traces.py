import pathlib
import subprocess
import sys

import keras
import pytest

pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the step of TensorFlow"),
]

PROGRAM = """
import tensorflow as tf
from electra_keras.training.steps.tensorflow_traces import CallsOutsideLibraries

@tf.function(jit_compile=True)
def double(value):
    with CallsOutsideLibraries():
        return value + value

print(float(double(tf.constant(21.0))))
"""


def files_of_an_operation(context):
    import tensorflow as tf

    made = []

    @tf.function
    def double(value):
        with context:
            # Through Keras, whose calls then stand between.
            made.append(keras.ops.add(value, value))
        return made[-1]

    double(tf.constant(1.0))
    return [frame.filename for frame in made[-1].op.traceback]


def is_of_a_library(file):
    import tensorflow as tf

    return any(pathlib.Path(library.__file__).parent in pathlib.Path(file).parents for library in (tf, keras))


def test_an_operation_remembers_its_callers_and_no_library():
    import contextlib

    from electra_keras.training.steps.tensorflow_traces import CallsOutsideLibraries

    everything = files_of_an_operation(contextlib.nullcontext())
    assert {True, False} == {is_of_a_library(file) for file in everything}
    files = files_of_an_operation(CallsOutsideLibraries())
    assert files == [file for file in everything if not is_of_a_library(file)]
    assert files[-1] == __file__


def test_a_function_that_nothing_but_a_script_calls_still_compiles():
    # XLA ends the process at an operation whose calls are all left out.
    finished = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, "42.0\n"), finished.stderr
