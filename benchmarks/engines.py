"""One engine in one process: reads commands from standard input, answers on standard output, one JSON object a line.

The process stays alive between rounds, so that compilation is paid once and rounds of different engines can alternate.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator

import accelerator
import memory
import numpy as np
from products import products_step
from shapes import SHAPES, Shape, random_batches
from turns import take_answers

from electra_keras.backend import BACKENDS
from electra_keras.process import compute_in_asking_thread, use_wide_vectors
from electra_keras.training.kept_memory import keep_freed_memory

OUR_ENGINES = BACKENDS
MATMUL_ENGINES = {"matmul_jax": "jax", "matmul_torch": "torch"}
PRODUCTS_ENGINE = "products_torch"
WARMUP_STEPS = 3
MATMUL_SIZES = {"cpu": 2_048, "gpu": 8_192}

# Makes some steps and returns the seconds that one took.
Run = Callable[[int], float]


def main() -> None:
    """Builds the engine that the first argument describes, warms it up, and answers until standard input ends."""
    job = Job(**json.loads(sys.argv[1]))
    answer = take_answers()
    run = build(job)
    accelerator.check_use(library_of(job.engine))
    before = memory.resident_bytes()
    started = time.perf_counter()
    run(WARMUP_STEPS)
    answer({"warmup_seconds": time.perf_counter() - started})
    peak = memory.peak_bytes()
    memory.reset_peak()
    for line in sys.stdin:
        seconds = run(json.loads(line)["steps"])
        steady = memory.peak_bytes()
        on_gpu = accelerator.peak_bytes(library_of(job.engine))
        answer({"seconds": seconds, "peak_rss": max(peak, steady), "step_memory": max(0, steady - before), "gpu_memory": on_gpu})


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        engine: one of OUR_ENGINES, MATMUL_ENGINES, PRODUCTS_ENGINE or the peers'.
        precision: "float32" or "mixed_bfloat16".
        shape: a name in SHAPES.
        dropout: hidden and attention dropout.
        changes: what differs from the shape, as `Shape.changed` takes it.
    """

    engine: str
    precision: str
    shape: str
    dropout: float
    changes: dict[str, int] = dataclasses.field(default_factory=dict)

    def sized(self) -> Shape:
        """Returns the shape with its changes."""
        return SHAPES[self.shape].changed(**self.changes).with_dropout(self.dropout)


def library_of(engine: str) -> str:
    """Returns what an engine computes with: "jax", "tensorflow" or "torch", as the loops around Hugging Face do."""
    return MATMUL_ENGINES.get(engine, engine if engine in OUR_ENGINES else "torch")


def build(job: Job) -> Run:
    """Returns the function that runs an engine."""
    engine, precision = job.engine, job.precision
    if engine in MATMUL_ENGINES:
        return matmul_run(MATMUL_ENGINES[engine], precision)
    shape = job.sized()
    if engine in OUR_ENGINES:
        os.environ["KERAS_BACKEND"] = engine
        # As the command does for itself.
        use_wide_vectors()
        if engine == "jax":
            compute_in_asking_thread()
        return fit_run(shape, precision)
    if engine == PRODUCTS_ENGINE:
        keep_freed_memory()
        return repeated(products_step(shape, precision))
    from peers import build_step

    return loop_run(build_step(engine, shape, precision), shape)


def loop_run(step: Callable, shape: Shape) -> Run:
    """Returns the runner of a peer's loop, which waits for every step's loss as such loops do."""
    batches = random_batches(shape)

    def run(steps: int) -> float:
        started = time.perf_counter()
        for index in range(steps):
            loss = step(batches[index % len(batches)])
        seconds = (time.perf_counter() - started) / steps
        if not np.isfinite(loss):
            raise RuntimeError(f"The loss is {loss}.")
        return seconds

    return run


def fit_run(shape: Shape, precision: str) -> Run:
    """Returns the runner of our training, by `fit` with the model that a training run builds."""
    import keras

    from electra_keras.config import Config, OptimizerConfig, PackingConfig, TrainingConfig
    from electra_keras.training.run import build_pretrainer

    batches = random_batches(shape)
    config = Config(
        model=shape.model,
        packing=PackingConfig(sequence_length=shape.sequence_length),
        optimizer=OptimizerConfig(warmup_steps=100),
        training=TrainingConfig(num_steps=100_000, batch_size=shape.batch_size, precision=precision),
    )
    model = build_pretrainer(config, shape.vocab_size)
    # As a run does before it trains.
    keep_freed_memory()

    class Stopwatch(keras.callbacks.Callback):
        """Times from the end of the first step to the end of the last, waiting for the device at both."""

        def on_train_batch_end(self, batch, logs=None):
            if batch in (0, self.params["steps"] - 1):
                self.model.sync_state()
                self.model.num_tokens()
                self.times.append(time.perf_counter())

    def run(steps: int) -> float:
        stopwatch = Stopwatch()
        stopwatch.times = []
        model.fit(endless(batches), steps_per_epoch=steps + 1, shuffle=False, verbose=0, callbacks=[stopwatch])
        first, last = stopwatch.times
        if model.watched_steps()[1]:
            raise RuntimeError("The loss or its gradient is not finite.")
        return (last - first) / steps

    return run


def endless(batches: list) -> Iterator:
    """Yields the batches round and round, through Grain as a training run does."""
    import grain

    return grain.MapDataset.range(sys.maxsize // 2).map(lambda index: batches[index % len(batches)]).to_iter_dataset()


def matmul_size() -> int:
    """Returns the rows of the large product: enough to keep a GPU busy, where that is what computes."""
    return MATMUL_SIZES["cpu" if accelerator.name() is None else "gpu"]


def matmul_run(library: str, precision: str) -> Run:
    """Returns the runner of one large square product, the machine's rate: bfloat16 operands for mixed_bfloat16."""
    size = matmul_size()
    values = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    dtype = "bfloat16" if precision == "mixed_bfloat16" else "float32"
    return repeated(jax_product(values, dtype) if library == "jax" else torch_product(values, dtype))


def repeated(step: Callable[[], None]) -> Run:
    """Returns the runner of what takes no batch."""

    def run(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - started) / steps

    return run


def jax_product(values: np.ndarray, dtype: str) -> Callable[[], None]:
    """Returns a function that multiplies under JAX and waits."""
    import jax

    left = jax.numpy.asarray(values, dtype)
    product = jax.jit(lambda a, b: jax.lax.dot(a, b, preferred_element_type="float32"))
    return lambda: product(left, left).block_until_ready()


def torch_product(values: np.ndarray, dtype: str) -> Callable[[], None]:
    """Returns a function that multiplies under PyTorch and waits."""
    import torch

    left = torch.tensor(values, dtype=getattr(torch, dtype), device=accelerator.torch_device())

    def multiply() -> None:
        torch.mm(left, left)
        if left.is_cuda:
            torch.cuda.synchronize()

    return multiply


if __name__ == "__main__":
    main()
