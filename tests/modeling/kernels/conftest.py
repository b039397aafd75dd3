"""What the tests of the kernels share: in which dtype PyTorch multiplies."""

import contextlib

import keras
import pytest

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


@contextlib.contextmanager
def _product_dtypes():
    from torch.utils._python_dispatch import TorchDispatchMode

    dtypes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named_arguments=None):
            name = function.overloadpacket.__name__
            if name in PRODUCTS or name.startswith("_scaled_dot_product"):
                # The second is an operand in all of them; the first may be a bias or a gradient.
                dtypes.append(keras.backend.standardize_dtype(arguments[1].dtype))
            return function(*arguments, **(named_arguments or {}))

    with Watch():
        yield dtypes


@pytest.fixture
def product_dtypes():
    """A context whose value is the list of the dtypes that PyTorch multiplies in it, a name for each product."""
    return _product_dtypes
