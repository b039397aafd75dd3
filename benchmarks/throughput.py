"""Measures tokens per second of a training step: ours on every backend, and the Hugging Face loops, side by side.

    python benchmarks/throughput.py --out benchmarks/results/throughput.json [--shapes bench_tiny small_128 small_512]
        [--engines jax tensorflow torch hf hf_compile hf_gathered hf_gathered_compile] [--precisions float32 mixed_bfloat16]
        [--dropout 0.0 0.1] [--batch_size 16] [--steps 5] [--rounds 5] [--again]

Every engine has a process of its own. The engines of one shape, precision and dropout are alive together and take turns (A B C A B C),
one running while the others wait, so that whatever else the machine does hits all alike; the medians over the rounds are compared.
products_torch is no training: it makes a step's matrix products and nothing else, and so says how fast any step could be that multiplies by
PyTorch's library (see products.py).

The default set is twelve groups of nine engines, about two hours on two cores (an estimate): a group takes 5 to 7 minutes to start, most of
it torch.compile's 60 to 140 s for each of the two compiled peers, and its turns take 2 minutes for bench_tiny and 6 to 8 for small.
Groups that --out holds are not measured again, so that the table can be taken in several sittings. A group that lacks an engine is measured
anew with all that it holds, because ratios are taken between turns of one sitting.
Two figures of memory are written, see memory.py: peak_rss of the whole process, and step_memory, which training takes. Where the machine
has a GPU, all engines compute on it or say that they cannot (see accelerator.py), and the table shows what their arrays take there in place
of step_memory:

    python benchmarks/throughput.py --out gpu.json --shapes small_128 small_512 base_128 base_512 --precisions mixed_bfloat16 --steps 20
"""

import argparse
import itertools

from engines import MATMUL_ENGINES, OUR_ENGINES, PRODUCTS_ENGINE, Job
from shapes import SHAPES
from turns import speed_ratio
from workers import Table, measure

PEER_ENGINES = ("hf", "hf_compile", "hf_gathered", "hf_gathered_compile")
USUAL_PEER = "hf"
PRECISIONS = ("float32", "mixed_bfloat16")
ENGINES_HELP = "engines to measure; others that the file holds beside one that it lacks are measured again with it"


def compare(rows: list[dict]) -> list[dict]:
    """Adds to every row its ratios, each the median over the rounds of the ratio within a round.

    speed_over_hf: against the usual loop; speed_over_fastest_peer: against the peer with the best median; matmul_share: operations the
    model needs per second, over those of the faster large product.
    """
    peers = [row for row in rows if row["engine"] in PEER_ENGINES]
    usual = next((row for row in peers if row["engine"] == USUAL_PEER), None)
    fastest = min(peers, key=lambda row: row["step_seconds"], default=None)
    products = [row for row in rows if row["engine"] in MATMUL_ENGINES]
    product = max(products, key=lambda row: row["flops_per_second"], default=None)
    for row in rows:
        if row in products:
            continue
        row["speed_over_hf"] = usual and speed_ratio(row["round_seconds"], usual["round_seconds"])
        row["speed_over_fastest_peer"] = fastest and speed_ratio(row["round_seconds"], fastest["round_seconds"])
        row["fastest_peer"] = fastest and fastest["engine"]
        row["matmul_share"] = None if product is None else round(row["flops_per_second"] / product["flops_per_second"], 3)
    return rows


def table(rows: list[dict]) -> str:
    """Formats the rows as Markdown; memory is the GPU's where all rows have such a figure, and the header says which."""
    rows = [row for row in rows if row["tokens_per_second"] is not None]
    on_gpu = bool(rows) and all(row.get("gpu_memory") is not None for row in rows)
    memory, head = ("gpu_memory", "GPU memory") if on_gpu else ("step_memory", "step memory")
    lines = [
        f"| shape | precision | dropout | engine | tokens/s | over hf | over fastest peer | of matmul | {head} | peak memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = (row["speed_over_hf"], row["speed_over_fastest_peer"], row["matmul_share"])
        shown = " | ".join("-" if figure is None else f"{figure:.2f}" for figure in figures)
        lines.append(
            f"| {row['shape']} | {row['precision']} | {row['dropout']} | {row['engine']} | {row['tokens_per_second']:,.0f} "
            f"| {shown} | {row[memory] / 1e6:,.0f} MB | {row['peak_rss'] / 1e6:,.0f} MB |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures every combination that the file lacks, and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="JSON file to write; whole groups that it holds are kept")
    parser.add_argument("--again", action="store_true", help="measure anew what the file holds")
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES], default=["bench_tiny", "small_128", "small_512"])
    engines = [*OUR_ENGINES, *PEER_ENGINES, *MATMUL_ENGINES, PRODUCTS_ENGINE]
    parser.add_argument("--engines", nargs="+", choices=engines, default=engines, help=ENGINES_HELP)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=[*PRECISIONS])
    parser.add_argument("--dropout", nargs="+", type=float, default=[0.0, 0.1], help="hidden and attention dropout")
    parser.add_argument("--batch_size", type=int, help="examples of a step (default: the shape's)")
    parser.add_argument("--steps", type=int, default=5, help="steps of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every engine")
    arguments = parser.parse_args()
    file = Table(arguments.out, arguments.steps, arguments.rounds, arguments.again)
    changes = {} if arguments.batch_size is None else {"batch_size": arguments.batch_size}
    wanted: list[dict] = []
    for shape, precision, dropout in itertools.product(arguments.shapes, arguments.precisions, arguments.dropout):
        jobs = [Job(engine, precision, shape, dropout, changes) for engine in arguments.engines]
        if file.lacks(jobs):
            file.put(compare(measure(file.with_measured(jobs), arguments.steps, arguments.rounds)))
        wanted += file.group(jobs)
    print(table(wanted))


if __name__ == "__main__":
    main()
