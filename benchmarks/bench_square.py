"""How much faster Square is where the network's first layers run on what has changed alone.

    python benchmarks/bench_square.py RUN [--data-root DIR] [--queries 1500] [--images 115]

RUN is a run directory whose network begins with unpadded convolutions, such as one of the recipe
``mnist``. Square attacks some of its test images with and without its stem, in turns, on one core;
the last line says seconds of CPU time, their ratio, and whether all images found are the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from zipper_dist.allocator import keep_freed_memory
from zipper_dist.attacks.autoattack import BlockRows
from zipper_dist.attacks.square import square
from zipper_dist.config import DataConfig
from zipper_dist.data import load
from zipper_dist.evaluation.views import WithStem, attacked_view
from zipper_dist.weights import load_model

EPS, SEED = 0.3, 0


def main() -> None:
    """Entry point of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory of the recipe mnist")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="has MNIST")
    parser.add_argument("--queries", type=int, default=1500, help="of Square, an image")
    parser.add_argument("--images", type=int, default=115, help="test images")
    parser.add_argument("--rounds", type=int, default=2, help="the best of so many is reported")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    view = attacked_view(load_model(options.run / "global.safetensors"))
    if not isinstance(view, WithStem):
        sys.exit(f"{options.run}: this network has no stem: it begins otherwise, or is narrow")
    test = load(DataConfig(source="mnist", root=options.data_root), 0).test
    x, y = test.images[: options.images].float() / 255, test.labels[: options.images]
    right = view(x).argmax(1) == y
    x, y = x[right], y[right]
    block = BlockRows(SEED, len(x), torch.arange(len(x)))
    spent: dict[str, list[float]] = {"whole": [], "stem": []}
    found = {}
    for _ in range(options.rounds):
        for name, network in (("whole", view.whole), ("stem", view)):
            start = time.process_time()
            found[name] = square(
                network, x, y, block, norm="linf", eps=EPS, queries=options.queries
            )
            spent[name].append(time.process_time() - start)
    whole, stem = min(spent["whole"]), min(spent["stem"])
    same = torch.equal(found["whole"], found["stem"])
    print(f"whole {whole:.1f} s, stem {stem:.1f} s, ratio {whole / stem:.2f}, same images: {same}")


if __name__ == "__main__":
    main()
