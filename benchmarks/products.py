"""The matrix products of a training step: how many operations they are, and how long they take with nothing else around them.

What the second gives, by PyTorch's library, is a bound: no step that multiplies by it, in these shapes, is faster. XLA has no such reading:
it chooses a product's form by what is around it, and whole steps have been faster than their products compiled one by one.
"""

import dataclasses
from collections.abc import Callable, Iterator

import accelerator
import numpy as np
from shapes import Shape

from electra_keras.config import MaskingRates
from electra_keras.data.masking import max_predictions


@dataclasses.dataclass(frozen=True)
class Product:
    """A product of the forward pass, whose backward pass makes two of the same size: (batch, rows, inner) times (batch, inner, columns).

    Attributes:
        batch: products of one call, as attention makes them; 1 for a dense layer.
        rows: of the left matrix.
        inner: the sum's length.
        columns: of the right matrix.
        times: how often a step makes it.
    """

    batch: int
    rows: int
    inner: int
    columns: int
    times: int = 1

    @property
    def flops(self) -> float:
        """Floating-point operations of a step, backward pass included."""
        return 3.0 * 2 * self.batch * self.rows * self.inner * self.columns * self.times


def products_of(shape: Shape) -> list[Product]:
    """Returns what a training step needs, whatever an engine computes besides.

    The generator's logits at masked positions alone, and of its last layer only keys and values at the others; nothing for recomputation,
    sampling or the optimizer.
    """
    model, generator = shape.model, shape.model.generator_shape()
    hidden, small, embedding = model.hidden_dim, generator["hidden_dim"], model.embedding_dim
    predictions = max_predictions(shape.sequence_length, MaskingRates().mask_prob)
    masked = shape.batch_size * predictions
    return [
        *_projection(shape, hidden),
        *_layer(shape, hidden, model.num_heads, model.intermediate_dim, shape.sequence_length, model.num_layers),
        Product(1, shape.tokens, hidden, hidden),
        Product(1, shape.tokens, hidden, 1),
        *_projection(shape, small),
        *_layer(shape, small, generator["num_heads"], generator["intermediate_dim"], shape.sequence_length, generator["num_layers"] - 1),
        *_layer(shape, small, generator["num_heads"], generator["intermediate_dim"], predictions, 1),
        Product(1, masked, small, embedding),
        Product(1, masked, embedding, shape.vocab_size),
    ]


def model_flops(shape: Shape) -> float:
    """Returns the floating-point operations of a step's products; `products_of` says which."""
    return sum(product.flops for product in products_of(shape))


def _projection(shape: Shape, hidden: int) -> Iterator[Product]:
    """From the embeddings into an encoder, where their sizes differ."""
    if shape.model.embedding_dim != hidden:
        yield Product(1, shape.tokens, shape.model.embedding_dim, hidden)


def _layer(shape: Shape, hidden: int, heads: int, intermediate: int, queries: int, times: int) -> Iterator[Product]:
    """An encoder's layers, each with that many queries an example, whose results alone are needed."""
    length, head = shape.sequence_length, hidden // heads
    rows = shape.batch_size * queries
    if queries == length:
        yield Product(1, rows, hidden, 3 * hidden, times)
    else:
        yield Product(1, rows, hidden, hidden, times)
        yield Product(1, shape.tokens, hidden, 2 * hidden, times)
    yield Product(shape.batch_size * heads, queries, head, length, times)
    yield Product(shape.batch_size * heads, queries, length, head, times)
    yield Product(1, rows, hidden, hidden, times)
    yield Product(1, rows, hidden, intermediate, times)
    yield Product(1, rows, intermediate, hidden, times)


def products_step(shape: Shape, precision: str) -> Callable[[], None]:
    """Returns a function that makes a step's products under PyTorch, forward and backward, and waits for the last.

    Each has its operands and results to itself, and those of equal layers have them together, so that they lie nearer to the processor than
    a step's do.

    Args:
        shape: the models' and the batch's size.
        precision: "float32", or "mixed_bfloat16" for operands of 16 bits.
    """
    dtype = "bfloat16" if precision == "mixed_bfloat16" else "float32"
    calls = [(torch_products(product, dtype), product.times) for product in products_of(shape)]

    def step() -> None:
        for call, times in calls:
            for _ in range(times):
                call()
        if accelerator.torch_device() == "cuda":
            import torch

            torch.cuda.synchronize()

    return step


def operands(product: Product) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the left and the right matrix and the result's gradient, float32, without the batch's axis where it is 1."""
    rng = np.random.default_rng(0)
    sizes = ((product.rows, product.inner), (product.inner, product.columns), (product.rows, product.columns))
    return tuple(rng.normal(size=size if product.batch == 1 else (product.batch, *size)).astype(np.float32) for size in sizes)


def torch_products(product: Product, dtype: str) -> Callable[[], tuple]:
    """Returns the product and its gradients under PyTorch, each in an array that is there already."""
    import torch

    device = accelerator.torch_device()
    left, right, gradient = (torch.tensor(array, dtype=getattr(torch, dtype), device=device) for array in operands(product))
    result, by_left, by_right = (torch.empty_like(array) for array in (gradient, left, right))

    def multiply() -> tuple:
        return (
            torch.matmul(left, right, out=result),
            torch.matmul(gradient, right.mT, out=by_left),
            torch.matmul(left.mT, gradient, out=by_right),
        )

    return multiply
