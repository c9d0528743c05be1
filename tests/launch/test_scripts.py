"""What the scripts start, with stand-ins for what is not here; and one really."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from end_to_end.commands import succeeded, train
from end_to_end.results import assert_same_result, summary
from end_to_end.test_placements import FOUR

from launch.running import LAUNCH, executable, script

# Writes down how it was called.
STAND_IN = """#!/usr/bin/env bash
echo "$(basename "$0") $* GPUs=${CUDA_VISIBLE_DEVICES:-}" > called
exit 7
"""
ELASTIC = "--rdzv_backend=c10d --rdzv_endpoint=node1"


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """Stand-ins for our commands, and a machine of six cores."""
    at = tmp_path / "commands"
    at.mkdir()
    for name in ("zipper-launch", "zipper-train"):
        executable(at / name, STAND_IN)
    executable(at / "nproc", '#!/usr/bin/env bash\necho "${OMP_NUM_THREADS:-6}"\n')
    return at


@pytest.mark.parametrize(
    ("name", "variables", "called"),
    [
        ("one_gpu.sh", {}, "zipper-train {} GPUs=0"),
        ("one_gpu.sh", {"CUDA_VISIBLE_DEVICES": 3}, "zipper-train {} GPUs=3"),
        (
            "all_gpus.sh",
            {},
            "zipper-launch --standalone --nproc_per_node=gpu --max-restarts=3 "
            "-m zipper_dist.train {} GPUs=",
        ),
        (
            "all_gpus.sh",
            {"RANKS": 4, "RESTARTS": 0, "CUDA_VISIBLE_DEVICES": "1,2"},
            "zipper-launch --standalone --nproc_per_node=4 --max-restarts=0 "
            "-m zipper_dist.train {} GPUs=1,2",
        ),
        (
            "cpu.sh",
            {},
            "zipper-launch --standalone --nproc_per_node=6 --max-restarts=3 "
            "-m zipper_dist.train {} --device cpu GPUs=",
        ),
        (
            "several_machines.sh",
            {"HEAD": "node1", "NODES": 2},
            f"zipper-launch --nnodes=2 --nproc_per_node=auto {ELASTIC}:29400 --rdzv_id=zipper "
            "--max-restarts=3 -m zipper_dist.train {} GPUs=",
        ),
        (
            "several_machines.sh",
            {
                **{
                    "HEAD": "node1",
                    "NODES": "1:4",
                    "RANKS": 8,
                    "PORT": 1234,
                    "RUN_ID": "two words",
                },
                **{"ADDRESS": "10.0.0.7", "RESTARTS": 9},
            },
            f"zipper-launch --nnodes=1:4 --nproc_per_node=8 {ELASTIC}:1234 --rdzv_id=two words "
            "--local_addr=10.0.0.7 --max-restarts=9 -m zipper_dist.train {} GPUs=",
        ),
    ],
)
def test_what_is_started(
    tmp_path: Path, commands: Path, name: str, variables: dict[str, object], called: str
) -> None:
    arguments = ["cifar10", "--data.root", "my data"]
    with script(name, *arguments, at=tmp_path, commands=commands, variables=variables) as started:
        assert started.ends() == 7, started.said
    assert (tmp_path / "called").read_text().strip() == called.format(" ".join(arguments))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "HEAD: set HEAD to the name of the machine that the ranks meet on"),
        ({"HEAD": "node1"}, "NODES: set NODES to the number of machines, or to the least and the"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, commands: Path, variables: dict[str, object], message: str
) -> None:
    name = "several_machines.sh"
    with script(name, "digits", at=tmp_path, commands=commands, variables=variables) as started:
        assert started.ends() == 1
    assert message in started.said
    assert not (tmp_path / "called").exists()


def test_all_gpus_of_a_machine_without_any(tmp_path: Path) -> None:
    variables = {"CUDA_VISIBLE_DEVICES": "-1"}
    with script("all_gpus.sh", "digits", at=tmp_path, variables=variables) as started:
        assert started.ends() == 2
    why = "--nproc_per_node gpu: Cuda is not available; give a number, gpu, cpu or auto"
    assert started.said.endswith(f" zipper: error: {why}")


@pytest.mark.parametrize("number", ["0:2", "2:1", "two"])
def test_a_number_of_machines_that_is_none(tmp_path: Path, number: str) -> None:
    variables = {"HEAD": "localhost", "NODES": number, "RANKS": 1}
    with script("several_machines.sh", "digits", at=tmp_path, variables=variables) as started:
        assert started.ends() == 2
    assert f" zipper: error: --nnodes {number}: " in started.said
    assert started.said.endswith("; give 2 or 1:2")


@pytest.mark.slow
def test_two_ranks_on_cpus(tmp_path: Path) -> None:
    variables = {"RANKS": 2, "RESTARTS": 0}
    with script("cpu.sh", *FOUR, at=tmp_path, variables=variables) as started:
        assert started.ends() == 0, started.said
    assert [rank["device"] for rank in summary(tmp_path / "run")["ranks"]] == ["cpu", "cpu"]
    alone = tmp_path / "alone"
    alone.mkdir()
    succeeded(train(*FOUR, at=alone))
    assert_same_result(tmp_path / "run", alone / "run")


def test_every_script_says_how_it_is_used() -> None:
    scripts = sorted(LAUNCH.iterdir())
    assert [path.name for path in scripts] == [
        *("all_gpus.sh", "cpu.sh", "one_gpu.sh", "several_machines.sh", "slurm.sbatch")
    ]
    for path in scripts:
        comment = [line for line in path.read_text().splitlines() if line.startswith("# ")]
        usage = next(i for i, line in enumerate(comment) if line.endswith(" Usage:"))
        assert f"launch/{path.name} RECIPE [OPTION …]" in comment[usage + 1]
        assert path.stat().st_mode & 0o111


@pytest.mark.parametrize("path", sorted(LAUNCH.iterdir()), ids=lambda path: str(path.name))
def test_bash_can_read_every_script(path: Path) -> None:
    checks = [["bash", "-n"]]
    if shellcheck := shutil.which("shellcheck"):
        checks.append([shellcheck, "--shell=bash"])
    for command in checks:
        done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
