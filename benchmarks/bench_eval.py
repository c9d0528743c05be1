"""How much faster an evaluation is than plain calls of pyautoattack, and on two cores than on one.

    make bench-eval [DATA=DIR] [ARGS='--only plain --images 128']
    make bench-eval [DATA=DIR] [ARGS='--only ranks --rank-images 10000 --turns 2']

The second part is in eval_ranks.py. The first trains the networks of the digits and mnist recipes
once (mnist with few steps), evaluates the ``standard`` attacks on test images, ours and plain in
one run, and writes benchmarks/out/eval.json. Each side draws its own numbers, so that a few
verdicts differ; that none does where both draw the same is a test. The sanity checks are left out
on both sides. Plain means what a script does: the network as it is loaded, each attack called by
itself, AutoAttack after its parts.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from eval_ranks import ranks_compared
from pyautoattack import AutoAttack
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from zipper_dist.checkpoint.run_directory import write_json
from zipper_dist.checkpoint.weights import load_model
from zipper_dist.config.schema import DataConfig
from zipper_dist.data import load
from zipper_dist.evaluation.attack_list import STANDARD

OUT = Path(__file__).parent / "out"
BLOCK, SEED = 128, 0
GRADIENT = {"fgsm": 1, "pgd-20": 20, "pgd-100": 100, "mim": 20, "cw": 30}
"""Gradient steps of the attacks that scripts write themselves; all are timed as PGD."""
PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
TRAINING = {
    "digits": "digits",
    "mnist": """mnist --steps 600 --batch-size 64 --mix.every 50 --mix.start 360
        --mix.ema 0.98 --eval.every 300 --eval.limit 200 --learners.adversarial.attack.steps 7
        --learners.adversarial.attack.step-size 0.08 --eval.attack-steps 5""",
}
"""Options of the training command by network; the network itself is the recipe's."""
SMALL = """mnist --data.image-size 16 --model.width 0.25 --steps 300 --batch-size 64 --mix.every 50
    --mix.start 180 --mix.ema 0.9 --eval.every 300 --eval.limit 200 --eval.attack-steps 5
    --learners.adversarial.attack.eps 0.1 --learners.adversarial.attack.steps 3
    --learners.adversarial.attack.step-size 0.04 --threads 1"""
"""The same for the small network that one rank and two evaluate."""


def trained(name: str, root: str) -> Path:
    """The network's run directory; trains it where it is not there yet (some minutes)."""
    run = OUT / f"eval-{name}-full"
    if not (run / "summary.json").exists():
        print(f"training the network of {name} (once) …", flush=True)
        options = TRAINING.get(name, SMALL)
        command = f"{options} --data.root {root} --run-dir {run} --device cpu"
        subprocess.run([sys.executable, "-m", "zipper_dist.train", *command.split()], check=True)
    return run


def plain_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    """PGD as scripts have it: backward through everything, every image attacked."""
    step = eps if steps == 1 else 2.5 * eps / steps
    images = x if steps == 1 else (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        images = images.detach().requires_grad_()
        F.cross_entropy(model(images), y).backward()  # type: ignore[no-untyped-call]
        assert images.grad is not None
        images = images + step * images.grad.sign()
        images = torch.min(torch.max(images, x - eps), x + eps).clamp(0, 1)
    return images.detach()


def plain(model: nn.Module, x: Tensor, y: Tensor, eps: float, name: str) -> Tensor:
    """Which images are classified right under an attack, bool (B,)."""
    if name in GRADIENT:
        x = plain_pgd(model, x, y, eps, GRADIENT[name])
    elif name != "clean":
        options = {} if name == "aa" else {"version": "custom", "attacks": [name]}
        attack = AutoAttack(model, norm="Linf", eps=eps, seed=SEED, **options)
        attack.apgd.n_restarts = attack.fab.n_restarts = 1  # as the standard version sets them
        attack.verbose = False
        x, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
    with torch.no_grad():
        right: Tensor = model(x).argmax(1) == y
    return right


def ours(run: Path, root: str, images: int, cores: int) -> list[dict[str, str]]:
    """What the command finds: evaluation.csv, a line an example."""
    out = OUT / "eval"
    shutil.rmtree(out, ignore_errors=True)
    launch = f"-m zipper_dist.launcher --standalone --nproc_per_node={cores}" if cores > 1 else ""
    command = f"""{launch} -m zipper_dist.evaluate {run} --data.root {root} --limit {images}
        --seed {SEED} --block-size {BLOCK} --threads 1 --out {out} --no-picture --device cpu
        --attacks {" ".join(STANDARD)}"""
    subprocess.run([sys.executable, *command.split()], check=True)
    (table,) = out.glob("evaluation*.csv")
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def measured(name: str, root: str, images: int, cores: int) -> dict[str, Any]:
    """The comparison on one network."""
    run = trained(name, root)
    start = time.perf_counter()
    lines = ours(run, root, images, cores)
    ours_seconds = time.perf_counter() - start
    config = json.loads((run / "config.json").read_text())["options"]
    data = DataConfig(config["data"]["source"], Path(root), image_size=config["data"]["image_size"])
    test = load(data, 0).test.subset(torch.tensor([int(line["example"]) for line in lines]))
    model, eps = (
        load_model(run / "global.safetensors"),
        config["learners"]["adversarial"]["attack"]["eps"],
    )
    blocks = list(DataLoader(TensorDataset(test.images.float() / 255, test.labels), BLOCK))
    differing, start = {}, time.perf_counter()
    for attack in STANDARD:
        print(f"plain: {attack}", flush=True)
        right = torch.cat([plain(model, x, y, eps, attack) for x, y in blocks])
        found = torch.tensor([line[attack] == "1" for line in lines])
        differing[attack] = int((found != right).sum())
    plain_seconds = time.perf_counter() - start
    return {
        "ours_seconds": ours_seconds,
        "plain_seconds": plain_seconds,
        "ratio": plain_seconds / ours_seconds,
        "differing_verdicts": {name: differing[name] for name in ("clean", *PARTS, "aa")},
    }


def main() -> None:
    """Entry point of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option, cores = parser.add_argument, len(os.sched_getaffinity(0))
    option("--images", type=int, default=512, help="test images")
    option("--cores", type=int, default=cores, help="CPU cores of each side")
    option("--data-root", default="data", help="directory with MNIST")
    option("--only", choices=["plain", "ranks"], help="one part of the two")
    option("--rank-images", type=int, default=1024, help="test images for one rank and for two")
    option("--turns", type=int, default=4, help="evaluations by one rank, and by two")
    options = parser.parse_args()
    torch.set_num_threads(options.cores)
    result: dict[str, Any] = {"torch": torch.__version__}
    if options.only != "plain":  # first: nothing of this process is in the way yet
        result["ranks"] = ranks_compared(
            trained("small", options.data_root), options.data_root, options.rank_images,
            options.turns, OUT / "eval",
        )  # fmt: skip
    if options.only != "ranks":
        result |= {"images": options.images, "cores": options.cores}
        for name in TRAINING:
            result[name] = measured(name, options.data_root, options.images, options.cores)
    write_json(OUT / "eval.json", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
