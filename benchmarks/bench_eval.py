"""How much faster an evaluation is than plain calls of pyautoattack and a plain PGD loop.

    make bench-eval [DATA=DIR] [ARGS='--images 128']

trains the networks of the digits and mnist recipes once (mnist with few steps), evaluates the
``standard`` attacks on test images, ours and plain in one run, and writes benchmarks/out/eval.json:
for each network ours_seconds, plain_seconds, their ratio, and whether the verdicts of AutoAttack
are equal, example by example. The sanity checks are left out on both sides. Plain means what a
script does: the network as it is loaded, each attack called by itself, AutoAttack after its parts.
Both sides have the same threads, blocks, seeds and draws.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from autoattack_reference import authors_verdicts
from torch import Tensor, nn

from zipper_dist.attacks import Blocks
from zipper_dist.attacks.draws import block_seed
from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.checkpoint.weights import load_model
from zipper_dist.config.schema import DataConfig
from zipper_dist.data import load
from zipper_dist.data.splits import limited_indices
from zipper_dist.evaluation.attack_list import STANDARD
from zipper_dist.evaluation.target import trained_threats

OUT = Path(__file__).parent / "out"
BLOCK, SEED = 128, 0
PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")

TRAINING = {
    "digits": "digits",
    "mnist": """mnist --steps 120 --batch-size 64 --mix.every 20 --mix.start 72
        --mix.ema 0.9 --eval.every 60 --eval.limit 200 --learners.adversarial.attack.steps 7
        --learners.adversarial.attack.step-size 0.08 --eval.attack-steps 5""",
}
"""Options of the training command by network; the network itself is the recipe's."""

Loss = Callable[[Tensor, Tensor], Tensor]


def trained(name: str, root: str) -> Path:
    """The network's file; trains it where it is not there yet (some minutes)."""
    run = OUT / f"eval-{name}-full"
    if not (run / "summary.json").exists():
        print(f"training the network of {name} (once) …", flush=True)
        command = f"{TRAINING[name]} --data.root {root} --run-dir {run} --device cpu"
        subprocess.run([sys.executable, "-m", "zipper_dist.train", *command.split()], check=True)
    return run / "global.safetensors"


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """The highest wrong logit less the right one, summed."""
    wrong = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return (wrong - logits.gather(1, y[:, None]).squeeze(1)).sum()


def plain_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, loss: Loss) -> Tensor:
    """PGD as scripts have it: backward through everything, every image attacked."""
    step = eps if steps == 1 else 2.5 * eps / steps
    images = x if steps == 1 else (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        images = images.detach().requires_grad_()
        loss(model(images), y).backward()  # type: ignore[no-untyped-call]
        assert images.grad is not None
        images = images + step * images.grad.sign()
        images = torch.min(torch.max(images, x - eps), x + eps).clamp(0, 1)
    return images.detach()


def plain(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, say: Callable[[str], None]
) -> dict[str, Tensor]:
    """Verdicts (which images are classified right) of the standard attacks, by attack."""
    blocks = Blocks(len(y), BLOCK)
    verdicts: dict[str, list[Tensor]] = {}

    def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y)

    gradient = {"fgsm": 1, "pgd-20": 20, "pgd-100": 100, "mim": 20, "cw": 30}
    for block in range(len(blocks)):
        bx, by = x[blocks.span(block)], y[blocks.span(block)]
        with torch.no_grad():
            verdicts.setdefault("clean", []).append(model(bx).argmax(1) == by)
        for name, steps in gradient.items():
            loss = margin if name == "cw" else cross_entropy
            attacked = plain_pgd(model, bx, by, eps, steps, loss)
            with torch.no_grad():
                verdicts.setdefault(name, []).append(model(attacked).argmax(1) == by)
        for name in (*PARTS, "aa"):
            say(f"plain: block {block + 1} of {len(blocks)}, {name}")
            attacks = None if name == "aa" else [name]
            right = authors_verdicts(
                model, bx, by, norm="linf", eps=eps, seed=block_seed(SEED, block), attacks=attacks
            )
            verdicts.setdefault(name, []).append(right)
    return {name: torch.cat(found) for name, found in verdicts.items()}


def ours(file: Path, root: str, images: int, cores: int) -> tuple[dict[str, Tensor], float, float]:
    """Verdicts by attack, and the seconds of the whole command: on the clock, and of a CPU."""
    out = OUT / "eval"
    shutil.rmtree(out, ignore_errors=True)
    command = f"""{file} --data.root {root} --limit {images} --seed {SEED} --block-size {BLOCK}
        --threads 1 --out {out} --no-picture --device cpu --attacks {" ".join(STANDARD)}"""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    launch = f"-m zipper_dist.launcher --standalone --nproc_per_node={cores}" if cores > 1 else ""
    launch += " -m zipper_dist.evaluate"
    subprocess.run([sys.executable, *launch.split(), *command.split()], check=True)
    seconds = time.perf_counter() - start
    cpu_seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used
    (table,) = out.glob("evaluation*.csv")
    header, *lines = [line.split(",") for line in table.read_text().splitlines()]
    columns = list(zip(*lines, strict=True))
    verdicts = {
        name: torch.tensor([cell == "1" for cell in columns[i]]) for i, name in enumerate(header)
    }
    return {name: verdicts[name] for name in STANDARD}, seconds, cpu_seconds


def measured(name: str, root: str, count: int, cores: int) -> dict[str, Any]:
    """The comparison on one network."""
    file = trained(name, root)
    config = json.loads((file.parent / "config.json").read_text())["options"]
    found, ours_seconds, ours_cpu = ours(file, root, count, cores)
    (threat,) = trained_threats(config)
    data = DataConfig(
        source=config["data"]["source"], root=Path(root), image_size=config["data"]["image_size"]
    )
    test = load(data, 0).test
    test = test.subset(limited_indices(len(test), count, "test"))
    x, y = (test.images.float() / 255).contiguous(), test.labels
    start, used = time.perf_counter(), time.process_time()
    expected = plain(load_model(file), x, y, threat.eps, lambda text: print(text, flush=True))
    plain_seconds, plain_cpu = time.perf_counter() - start, time.process_time() - used
    differing = {
        part: int((found[part] != expected[part]).sum()) for part in ("clean", *PARTS, "aa")
    }
    return {
        "ours_seconds": round(ours_seconds, 1),
        "plain_seconds": round(plain_seconds, 1),
        "ratio": round(plain_seconds / ours_seconds, 2),
        "ours_cpu_seconds": round(ours_cpu, 1),
        "plain_cpu_seconds": round(plain_cpu, 1),
        "cpu_ratio": round(plain_cpu / ours_cpu, 2),
        "verdicts_equal": differing["aa"] == 0,
        "differing_verdicts": differing,
        "accuracy": {attack: 100 * float(v.float().mean()) for attack, v in found.items()},
    }


def main() -> None:
    """Entry point of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=TRAINING, default=list(TRAINING))
    parser.add_argument("--images", type=int, default=512, help="test images")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--cores", type=int, default=cores, help="CPU cores of each side")
    parser.add_argument("--data-root", default="data", help="directory with MNIST")
    options = parser.parse_args()
    torch.set_num_threads(options.cores)
    OUT.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "images": options.images, "cores": options.cores, "torch": torch.__version__,
    }  # fmt: skip
    for name in options.networks:
        result[name] = measured(name, options.data_root, options.images, options.cores)
    write_atomically(OUT / "eval.json", (json.dumps(result, indent=2) + "\n").encode())
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
