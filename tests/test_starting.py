"""Commands show that they live before they import what takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WAITING = "import time\ntime.sleep(600)\n"


@pytest.fixture
def without_end(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing torch takes longer than anybody waits."""
    (tmp_path / "torch.py").write_text(WAITING)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path}


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "export", "report", "launcher"]
)
def test_the_first_line_comes_before_torch_is_imported(
    command: str, without_end: dict[str, str]
) -> None:
    words = [sys.executable, "-m", f"zipper_dist.{command}", "digits"]
    with subprocess.Popen(words, env=without_end, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        alive = process.poll() is None
        process.kill()
    assert alive
    assert line == ("starting the ranks …\n" if command == "launcher" else "loading PyTorch …\n")


@pytest.mark.parametrize(
    ("arguments", "rank"), [(["--help"], "0"), (["-h"], "0"), (["--version"], "0"), ([], "1")]
)
def test_nothing_is_said_beside_a_text_or_by_other_ranks(arguments: list[str], rank: str) -> None:
    program = "from zipper_dist.starting import importing\nwith importing(): print('body')"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"RANK": rank},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "body\n"


def test_nobody_has_to_read_the_first_line() -> None:
    program = "from zipper_dist.starting import importing\nwith importing(): raise SystemExit(3)"
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, b"")


@pytest.mark.parametrize(
    ("command", "status"),
    [("train --help", 0), ("predict --help", 0), ("predict absent absent.png", 2)],
)
def test_standard_output_may_be_closed(command: str, status: int) -> None:
    line = f"exec {sys.executable} -m zipper_dist.{command} >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Error" not in done.stderr
    assert len(done.stderr.splitlines()) == (1 if status else 0)
