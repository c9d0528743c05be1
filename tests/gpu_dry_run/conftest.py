"""The stub of CUDA, built once a test session."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch

CUDA = 13  # the version of the interface that the stub implements


def missing(headers: list[Path]) -> str | None:
    """What is not here to build the stub and to run torch on it."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA"
    if int(torch.version.cuda.partition(".")[0]) != CUDA:
        return f"torch is built for CUDA {torch.version.cuda}, the stub for CUDA {CUDA}"
    if shutil.which("gcc") is None:
        return "no gcc was found"
    if absent := [str(folder) for folder in headers if not folder.is_dir()]:
        return f"the headers of CUDA are not in {' and '.join(absent)}"
    return None


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stub as a shared library."""
    packages = Path(sysconfig.get_paths()["purelib"])
    headers = [packages / f"nvidia/cu{CUDA}/include", packages / "triton/backends/nvidia/include"]
    if (why := missing(headers)) is not None:
        pytest.skip(f"no dry run of CUDA: {why}")
    # It is the driver, too, which torch opens by this name.
    library = tmp_path_factory.mktemp("stub") / "libcuda.so.1"
    include = [f"-I{folder}" for folder in headers]
    options = ["-shared", "-fPIC", "-O1", "-Wall", f"-Wl,-soname,{library.name}", *include]
    source = Path(__file__).with_name("stub.c")
    built = subprocess.run(
        ["gcc", *options, "-o", str(library), str(source)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return library
