"""What TensorFlow remembers of where an operation was made: the lines of this package and its callers, not those of libraries.

TensorFlow keeps with every operation of a compiled graph the whole stack of Python calls that it was made in. The training step of 4 layers
has 9,000 operations of 67 calls on average, of which 71% are TensorFlow's own and 20% Keras': 106 MB that stay as long as the compiled
function, and 290 MB for the paper's small. The calls that are kept are those that the message of a failing operation shows.
"""

import pathlib
import sys

import keras
import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.util import tf_stack


class CallsOutsideLibraries(tf_stack.StackTraceFilter):
    """A context in which operations are made without the calls of TensorFlow and Keras; one instance for each time it is entered."""

    def __init__(self):
        super().__init__()
        folders = tuple(f"{pathlib.Path(library.__file__).parent}/" for library in (tf, keras))
        files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
        # TensorFlow drops three more calls, the innermost, which are in this file as a rule. Were they gone already, the caller's would
        # have to go, and an operation without any call ends the process as XLA compiles it.
        self._files = frozenset(file for file in files if file.startswith(folders) and file != ops.__file__)

    def get_filtered_filenames(self) -> frozenset[str]:
        """Returns the files whose calls are left out."""
        return self.parent.get_filtered_filenames() | self._files
