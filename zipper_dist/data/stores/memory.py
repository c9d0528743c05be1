"""Whether images fit into the memory of the machine, before they are made."""

import os
from pathlib import Path

from zipper_dist.errors import UserError

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where a container's limit stands: version 2, version 1."""


def host_memory() -> int:
    """What this process may still allocate, at most [bytes]: the memory that is free or can be
    freed, and swap; or the limit of its container."""
    amounts = []
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        kilobytes = {words[0]: int(words[1]) for words in lines}
        amounts.append(1024 * (kilobytes["MemAvailable:"] + kilobytes["SwapFree:"]))
    except (OSError, LookupError, ValueError):  # not Linux
        amounts.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in CGROUP_LIMITS:
        try:
            amounts.append(int(file.read_text()))
        except (OSError, ValueError):  # no such version; "max": no limit
            continue
    return min(amounts)


def require_memory(images: int, width: int, height: int, channels: int, option: str) -> None:
    """Raise UserError about ``option`` and its value unless so many uint8 images fit."""
    needed, available = images * width * height * channels, host_memory()
    if needed > available:
        raise UserError(
            f"{option}: {images:,} images of {height:,}×{width:,} pixels take "
            f"{needed / 2**30:,.1f} GiB of memory, of which {available / 2**30:,.1f} GiB are "
            "available: give a smaller --data.image-size, fewer images with --data.limit, or "
            "--data.store disk"
        )
