"""How fast images come from disk that do not fit into memory, and how long training waits for them.

    make bench-data [ARGS='--gigabytes 4 --at DIR']

It writes a synthetic data set of JPEG files, lets the trainer decode it into its cache, and deletes
both at the end: beside the images, --gigabytes of disk are needed. Before each measurement the file
of images is removed from the memory of the system, so that they come from the disk. The page goes
to benchmarks/results/data.md, or to --out.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zipper_dist.config.schema import DataConfig
from zipper_dist.data import ImageSet, Loader, load

CLASSES, TEST, PICTURES = 10, 20, 500
TRAININGS = {
    "a natural learner, SmallCNN an eighth as wide": """folder-natural --model.arch small_cnn
        --model.width 0.125 --batch-size 64 --steps 40""",
    "Zipper with 2 steps of PGD, SmallCNN an eighth as wide": """folder --model.arch small_cnn
        --model.width 0.125 --batch-size 64 --steps 15 --learners.adversarial.attack.steps 2""",
}
"""Options of the training command: far less work for each image than usual, hard on the loader."""
COMMON = """--data.crop-padding 16 --data.flip --data.validation 20 --eval.limit 10
    --eval.attack-steps 1 --mix.start 2 --mix.every 0 --device cpu --resume never"""
OF_ITERATIONS = ("attack", "training step", "mixing", "reporting")
WAITING = "reading images"


@dataclass
class Place:
    """Where the images are, and how large they are."""

    directory: Path
    side: int
    count: int

    @property
    def cache(self) -> Path:
        """Directory of the decoded images."""
        return self.directory / "cache"

    def config(self) -> DataConfig:
        """The data set, on disk."""
        return DataConfig(
            "folder", self.directory / "images", validation="test", store="disk", cache=self.cache
        )


def write_images(place: Place) -> int:
    """Write the JPEG files, some pictures again and again; their size [bytes]."""
    draws, pictures = np.random.default_rng(0), []
    for _ in range(PICTURES):
        rough = draws.integers(0, 256, (place.side // 8, place.side // 8, 3), np.uint8)
        file = io.BytesIO()
        smooth = Image.fromarray(rough).resize((place.side, place.side))
        smooth.save(file, "jpeg", quality=90)
        pictures.append(file.getvalue())
    for part, count in (("train", place.count), ("test", TEST)):
        for label in range(CLASSES):
            (place.directory / "images" / part / f"{label}").mkdir(parents=True)
        for number in range(count):
            name = f"{number % CLASSES}/{number:07}.jpg"
            content = pictures[number % PICTURES]
            (place.directory / "images" / part / name).write_bytes(content)
    return sum(map(len, pictures)) * place.count // PICTURES


def forget(place: Place) -> None:
    """Remove the decoded images from the memory of the system."""
    gc.collect()  # what a loader has mapped would stay
    for path in place.cache.glob("*.images"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory(name: str) -> int:
    """A figure of /proc/meminfo [bytes]."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def bytes_read() -> int:
    """What this process has read from disks so far [bytes]."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


def rate(images: ImageSet, batch_size: int, seconds: float) -> tuple[float, float]:
    """Images in a second that come as minibatches, and how much of them came from the disk."""
    loader = Loader(images, batch_size, 0, crop_padding=16, flip=True)
    before, start, t = bytes_read(), time.perf_counter(), 0
    while (took := time.perf_counter() - start) < seconds:
        t += 1
        loader.minibatch(t)
    read = bytes_read() - before
    size = images.nbytes // len(images)
    return t * batch_size / took, read / (t * batch_size * size)


def waited(place: Place, options: str) -> tuple[float, float]:
    """Images in a second of a real training, and the share of its iterations that it waits."""
    run, words = place.directory / "run", f"{options} {COMMON}".split()
    steps = int(words[words.index("--steps") + 1])
    words += ["--data.root", str(place.directory / "images"), "--data.cache", str(place.cache)]
    words += ["--data.store", "disk", "--trace", f"1:{steps}", "--run-dir", str(run)]
    subprocess.run([sys.executable, "-m", "zipper_dist.train", *words], check=True)
    total, waiting = spent(run / "trace-0.json")
    batch_size = int(words[words.index("--batch-size") + 1])
    return steps * batch_size / total, waiting / total


def spent(trace: Path) -> tuple[float, float]:
    """How long the iterations of a rank took, and how much of that it waited for images [s]."""
    seconds: Counter[str] = Counter()
    for event in json.loads(trace.read_text())["traceEvents"]:
        if event["ph"] == "X":
            seconds[event["name"]] += event["dur"] / 1e6
    return seconds[WAITING] + sum(seconds[name] for name in OF_ITERATIONS), seconds[WAITING]


def measured(place: Place, seconds: float) -> str:
    """All measurements, as a page."""
    files = write_images(place)
    free, available = memory("MemFree"), memory("MemAvailable")
    start = time.perf_counter()
    images = load(place.config(), 0).train
    decoding = time.perf_counter() - start
    again = time.perf_counter()
    images = load(place.config(), 0).train
    again = time.perf_counter() - again
    decoded = sum(path.stat().st_size for path in place.cache.glob("*.images"))
    lines = [
        "# `make bench-data`: images that stay on disk",
        "",
        f"{len(images):,} JPEG files ({files / 1e9:.1f} GB) of {place.side}×{place.side} pixels, "
        f"decoded {decoded / 1e9:.1f} GB. Of the memory, {free / 1e9:.1f} GB were free before, and "
        f"{available / 1e9:.1f} GB with what the system can give up. {os.cpu_count()} cores, "
        f"{platform.machine()}, no GPU, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {time.strftime('%Y-%m-%d')}. `{' '.join(sys.argv)}`",
        "",
        f"The first start decodes {len(images) / decoding:,.0f} images/s ({decoding:.0f} s, with "
        f"looking for the files); the next one takes {again:.1f} s. Before each of the figures "
        "below the decoded images were removed from the memory of the system.",
        "",
        "| the loader by itself: minibatches of | images/s | MB/s | of them from the disk |",
        "| --- | --- | --- | --- |",
    ]
    size = images.nbytes / len(images) / 1e6
    del images  # what is mapped is not forgotten
    for batch_size in (32, 128):
        forget(place)
        found, disk = rate(load(place.config(), 0).train, batch_size, seconds)
        lines.append(f"| {batch_size} | {found:,.0f} | {found * size:,.0f} | {disk:.0%} |")
    lines += [
        "",
        "| training, on all cores | images/s | waits for images |",
        "| --- | --- | --- |",
    ]
    for name, options in TRAININGS.items():
        forget(place)
        found, share = waited(place, options)
        lines.append(f"| {name} | {found:,.1f} | {share:.2%} |")
    lines += [
        "",
        "A training waits from when it asks for a minibatch until it has it, by the timeline of "
        "the rank (`--trace`): a share of all its iterations, without validations and checkpoints. "
        "What trains more images in a second than the loader gives would wait for them.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write the page, and delete the images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, default=20.0, help="of decoded images [GB]")
    parser.add_argument("--side", type=int, default=224, help="height and width [pixels]")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate of the loader")
    parser.add_argument("--at", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "data.md")
    options = parser.parse_args()
    count = int(options.gigabytes * 1e9 / (3 * options.side**2 + 4))
    options.at.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(options.at).free
    if free < 1.2e9 * options.gigabytes:
        sys.exit(f"{options.at} has {free / 1e9:.1f} GB free: give another --at, or --gigabytes")
    place = Place(options.at / f"data-{os.getpid()}", options.side, count)
    try:
        page = measured(place, options.seconds)
    finally:
        shutil.rmtree(place.directory, ignore_errors=True)
    options.out.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
