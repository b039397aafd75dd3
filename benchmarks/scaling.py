"""Measures how tokens per second and memory follow batch, length and layers: ours on every backend and the fastest Hugging Face loops.

    python benchmarks/scaling.py --out benchmarks/results/scaling.json --plot benchmarks/results/scaling.svg
        [--shape bench_tiny] [--precision float32] [--dropout 0.1] [--engines jax tensorflow torch hf_gathered hf]
        [--batch_sizes 8 16 32 64 128] [--lengths 64 128 256 512] [--layers 2 4 8 12] [--steps 3] [--rounds 3] [--again]

One size changes, the others stay the shape's. At every point the engines take turns as in throughput.py. Every row says the model's
floating-point operations and their rate: where that stays, step time grows as far as arithmetic says. Points that --out holds are not
measured again; one that lacks an engine is, with all the engines that it holds. The default set is eleven points of five engines, each of
which starts anew and compiles: about 40 minutes on two cores.
"""

import argparse

from engines import OUR_ENGINES, Job
from scaling_plot import draw
from shapes import SHAPES
from throughput import ENGINES_HELP, PEER_ENGINES, PRECISIONS
from workers import Table, measure

ENGINES = (*OUR_ENGINES, "hf_gathered", "hf")


def points(shape_name: str, sizes: dict[str, list[int]]) -> list[dict[str, int]]:
    """Returns the changes of every point, the shape itself as no change and once.

    Args:
        shape_name: a name in SHAPES.
        sizes: batch_size, sequence_length, num_layers -> the values to take.
    """
    own = SHAPES[shape_name].sizes
    found: list[dict[str, int]] = []
    for axis, values in sizes.items():
        for value in values:
            changes = {} if value == own[axis] else {axis: value}
            if changes not in found:
                found.append(changes)
    return found


def main() -> None:
    """Measures the points that the file lacks, and draws all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="JSON file to write; points that it holds are kept")
    parser.add_argument("--plot", required=True, help="SVG file to write")
    parser.add_argument("--again", action="store_true", help="measure anew what the file holds")
    parser.add_argument("--shape", choices=[*SHAPES], default="bench_tiny", help="what the sizes are changed of")
    parser.add_argument("--engines", nargs="+", choices=[*OUR_ENGINES, *PEER_ENGINES], default=[*ENGINES], help=ENGINES_HELP)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--dropout", type=float, default=0.1, help="hidden and attention dropout")
    parser.add_argument("--batch_sizes", nargs="*", type=int, default=[8, 16, 32, 64, 128])
    parser.add_argument("--lengths", nargs="*", type=int, default=[64, 128, 256, 512], help="tokens of an example")
    parser.add_argument("--layers", nargs="*", type=int, default=[2, 4, 8, 12], help="layers of the discriminator; the generator follows")
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every engine")
    arguments = parser.parse_args()
    file = Table(arguments.out, arguments.steps, arguments.rounds, arguments.again)
    sizes = {"batch_size": arguments.batch_sizes, "sequence_length": arguments.lengths, "num_layers": arguments.layers}
    rows: list[dict] = []
    for changes in points(arguments.shape, sizes):
        jobs = [Job(engine, arguments.precision, arguments.shape, arguments.dropout, changes) for engine in arguments.engines]
        if file.lacks(jobs):
            file.put(measure(file.with_measured(jobs), arguments.steps, arguments.rounds))
        rows += [row for row in file.group(jobs) if row["engine"] in arguments.engines]
    draw(rows, SHAPES[arguments.shape].sizes, f"{arguments.shape}, {arguments.precision}, dropout {arguments.dropout}", arguments.plot)
    for row in rows:
        size = ", ".join(f"{name} {value}" for name, value in row["changes"].items()) or "unchanged"
        print(f"{row['engine']:12} {size}: {row['tokens_per_second']:,.0f} tokens/s, {row['flops_per_second'] / 1e9:,.0f} GFLOP/s")


if __name__ == "__main__":
    main()
