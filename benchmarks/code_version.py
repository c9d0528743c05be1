"""Which code made what a benchmark has measured, so that it does not go on with what other made."""

import hashlib
from pathlib import Path

import zipper_dist


def version_of_code(tool: str, *settings: object) -> str:
    """SHA-256 (hex) of the package, of the folder ``tool`` beside this file, and of ``settings``
    that results depend on besides."""
    digest = hashlib.sha256(" ".join(map(str, settings)).encode())
    for root in (Path(zipper_dist.__file__).parent, Path(__file__).parent / tool):
        for path in sorted(root.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
