"""Memory that tensors free stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from zipper_dist.distributed.hardware import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for size in (2**20, 2**22, 2**23):  # 4, 16 and 32 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(13):
        torch.ones(size)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    command = [sys.executable, "-c", SCRIPT, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt belongs to glibc")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    # Thirteen times 8,192 pages; with them kept, the first time or two.
    assert page_faults("keep") < page_faults("give back") / 3
