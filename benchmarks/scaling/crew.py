"""The processes of a variant, started, told to work, and ended by the benchmark."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from torch.distributed.elastic.utils.distributed import get_free_port

from scaling.accounting import account
from scaling.cases import Network, Variant
from scaling.rank import SYNC, Job, work

END_SECONDS = 20.0
PRELOADED = ["zipper_dist.training.run", "torch._dynamo"]
"""What takes seconds to import: once, not in each rank."""


class Crew:
    """The ranks of a variant, asleep but for :meth:`run`; as a context, they end with it."""

    def __init__(
        self,
        network: Network,
        variant: Variant,
        cores: Sequence[int],
        done: int = 0,
        steps: int | None = None,
    ) -> None:
        self._name, self._count = variant.name, variant.ranks
        self._job = network, variant, cores, done, steps
        self._root = Path(tempfile.mkdtemp(prefix="bench-scaling-"))
        self._ranks: list[tuple[Any, Any]] = []
        self.about: list[dict[str, Any]] = []

    def __enter__(self) -> Crew:
        with contextlib.ExitStack() as failed:
            failed.callback(self.__exit__)
            self._start()
            failed.pop_all()
        return self

    def _start(self) -> None:
        network, variant, cores, done, steps = self._job
        count, port = self._count, get_free_port()  # type: ignore[no-untyped-call]
        variables = {
            "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        job = Job(network, variant, cores[:count], variables, str(self._root), done, steps)
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        for rank in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(job, rank, theirs), daemon=True)
            process.start()
            theirs.close()
            self._ranks.append((process, ours))
        self.about = [self._hear(pipe) for _, pipe in self._ranks]

    def run(self, iterations: int) -> dict[str, Any]:
        """Train on: where the time went, see :func:`account`."""
        for _, pipe in self._ranks:
            pipe.send(iterations)
        return account([self._hear(pipe) for _, pipe in self._ranks], iterations, SYNC)

    def _hear(self, pipe: Any) -> Any:
        try:
            return pipe.recv()
        except EOFError:
            raise RuntimeError(f"a rank of {self._name} has ended; see above") from None

    def __exit__(self, *error: object) -> None:
        for process, pipe in reversed(self._ranks):  # rank 0, which the others talk through, last
            with contextlib.suppress(OSError):
                pipe.send(0)
            process.join(END_SECONDS)
            if process.is_alive():
                process.kill()
        shutil.rmtree(self._root, ignore_errors=True)


@contextlib.contextmanager
def busy_loop(core: int, wanted: bool = True) -> Iterator[None]:
    """For the duration, another process takes its turns on a core, at equal priority."""
    if not wanted:
        yield
        return
    command = [sys.executable, "-S", "-c", "while True: pass"]
    with subprocess.Popen(command) as loop:
        try:
            os.sched_setaffinity(loop.pid, {core})
            yield
        finally:
            loop.kill()
