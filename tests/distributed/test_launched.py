"""Ranks end when their torchrun is gone, also if it was so before they could look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from distributed.jobs import environment

# A number of processes of its own, so that process 1 is what stands first.
ALONE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]

RANK = """
import sys, time
{before}
from zipper_dist.distributed.launched import end_with_torchrun
end_with_torchrun()
time.sleep(8)
print("left alone", flush=True)
"""
LATE = "time.sleep(1)"  # the launcher is gone by then
LAUNCHER = "import subprocess, sys; subprocess.run([sys.executable, 'rank.py'])"


def ran(at: Path, *command: str, before: str = "") -> str:
    """What a command says, as process 1, that starts rank.py by itself or through others."""
    (at / "rank.py").write_text(RANK.format(before=before))
    done = subprocess.run(
        [*ALONE, *command], cwd=at, env=environment(0, TORCHELASTIC_RUN_ID="job"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout


def test_a_launcher_that_died_before_it_could_be_noted(tmp_path: Path) -> None:
    (tmp_path / "launcher.sh").write_text(f"{sys.executable} rank.py & exit")
    # The inner shell is the launcher; the outer one is process 1, whose end ends all others.
    until = "while grep -qs 'rank[.]py' /proc/[2-9]*/cmdline; do sleep 0.2; done"
    said = ran(tmp_path, "sh", "-c", f"sh launcher.sh; sleep 2; {until}", before=LATE)
    assert "lost contact with torchrun (process 1), which is gone" in said
    assert "left alone" not in said


def test_a_launcher_that_is_process_1(tmp_path: Path) -> None:
    assert ran(tmp_path, sys.executable, "-c", LAUNCHER) == "left alone\n"
