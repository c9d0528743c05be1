"""The options of the evaluation command, and what is out of range in them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from zipper_dist.config import ranges
from zipper_dist.config.data import StoreName
from zipper_dist.config.schema import Device
from zipper_dist.config.threat import Norm, ThreatsOption, problems_of
from zipper_dist.data import DATASETS
from zipper_dist.errors import UserError


@dataclass(frozen=True)
class ImageOptions:
    """The images; what is not given is as in the run that the weights come from."""

    root: Path | None = None
    """Directory that holds the data sets; for the folder data set, train/ and test/."""
    image_size: int | None = None
    """Resize every image to this height and width [pixels]."""
    skip_unreadable: bool = False
    """Go on without the files of a folder that cannot be read as images, as the run may have."""
    store: StoreName = "auto"
    """Where the images are kept: in memory (device, memory) or decoded in a file (disk)."""
    cache: Path | None = None
    """Directory of these files."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure the clean and robust accuracy of a network on its test set.

    The same command continues an evaluation that was interrupted, and never repeats what is done.
    """

    target: tyro.conf.Positional[Path]
    """A run directory, or a file with weights."""
    attacks: tuple[str, ...] = ("standard",)
    """clean, fgsm, pgd-N, mim[-N], cw[-N], apgd-ce, apgd-dlr, apgd-t, fab-t, square, aa (which is
    AutoAttack) or standard (all of these, and the sanity checks); N is a number of steps. An attack
    from outside is package.module:Class or path/to/file.py:Class."""
    learner: str = "global"
    """Which network of a run directory: global, best, or a learner's name."""
    threats: ThreatsOption = ()
    """What the attacker may do, as linf:8/255 or l2:0.5; with several, every attack is reported
    under each and under their union: an image counts as robust only if it withstands all of them.
    Default: what the network was trained for."""
    norm: Norm | None = None
    """Short form of --threats for one: its norm; default: what the network was trained for."""
    eps: float | None = None
    """… and its radius [1 = the full pixel range]; default: as trained for."""
    step_size: float | None = None
    """Step of pgd, mim and cw [1 = the full pixel range]; default: that of the run's own
    evaluation, or else 2.5 eps / steps."""
    restarts: int = 1
    """Starts of pgd, each for the examples that the ones before did not break."""
    limit: int | None = None
    """Use only so many test images, chosen at random but always the same ones [images]."""
    first: int | None = None
    """Use only the first so many test images, as is usual for AutoAttack [images]."""
    seed: int = 0
    """Seed of every random draw."""
    dataset: Annotated[str | None, tyro.conf.arg(name="data")] = None
    """Data set (digits, mnist, cifar10, cifar100, svhn, folder, numpy, datasets); default: as
    in the run."""
    data: ImageOptions = field(default_factory=ImageOptions)
    model: str | None = None
    """A network of other origin, as package.module:factory; TARGET is then the file of its state
    dict (.pt, .pth or .safetensors)."""
    mean: tuple[float, ...] | None = None
    """With --model: means that the network expects to be taken from the channels of an image."""
    std: tuple[float, ...] | None = None
    """With --model: standard deviations that it then expects the channels to be divided by."""
    trust: bool = False
    """Import, and so run, the code that a weights file names, if its network is none of the
    package, torchvision or timm."""
    sanity: bool = False
    """Run the sanity checks; standard always does."""
    device: Device = "auto"
    """Where to compute; auto: a GPU for each rank where there are GPUs."""
    threads: int | None = None
    """CPU threads of each process; default: the cores of the machine over its processes."""
    timeout: float = 600.0
    """End the job if a rank is not heard of for so long; one that works is, however long it works
    [seconds]."""
    batch_size: int | None = None
    """Images at a time; changes no outcome; default: what fits in memory [images]."""
    block_size: int = 128
    """Examples that share the draws of an AutoAttack attack; part of the result's address, as the
    seed is [images]."""
    out: Path | None = None
    """Directory for what is found; default: where the weights are."""
    save_adversarial: Path | None = None
    """Keep the adversarial images in this safetensors file."""
    picture: bool = True
    """Draw some examples, clean and attacked, into a PNG file beside the figures."""


def validate(options: EvaluateOptions) -> None:
    """Raise UserError with everything that is out of range in ``options``, in one line."""
    o = options
    found: list[str] = []
    for name in ("restarts", "limit", "first", "batch_size", "block_size"):
        found += ranges.at_least_one(f"--{name.replace('_', '-')}", getattr(o, name))
    found += ranges.at_least_one("--threads", o.threads, ranges.MOST_THREADS)
    found += ranges.at_least_one("--data.image-size", o.data.image_size)
    found += ranges.number("--seed", o.seed, -(2**63), 2**63 - 1)
    found += ranges.number("--timeout", o.timeout, 1, 1e7)
    found += problems_of(o.threats, "--threats")
    step = f"--step-size {o.step_size}: give a length above 0, where 1 is the full pixel range"
    nowhere = o.save_adversarial is not None and not o.save_adversarial.parent.is_dir()
    two_ways = bool(o.threats) and (o.norm, o.eps) != (None, None)
    problems = {
        "--limit and --first: give one of them": None not in (o.limit, o.first),
        "--threats and --norm, --eps: give one of them": two_ways,
        step: o.step_size is not None and not 0 < o.step_size <= 1e3,
        "--mean and --std: give both or neither": (o.mean is None) != (o.std is None),
        "--std: give numbers above 0": o.std is not None and min(o.std, default=0) <= 0,
        "--mean, --std: they belong to --model": o.model is None and o.mean is not None,
        f"--save-adversarial {o.save_adversarial}: there is no such directory": nowhere,
    }
    found += [problem for problem, there in problems.items() if there]
    if found:
        raise UserError("; ".join(found))
    if o.dataset is not None:
        DATASETS.find(o.dataset, "--data")
