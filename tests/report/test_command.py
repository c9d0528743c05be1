"""The command: mistakes, runs that go on, and what it loads."""

from __future__ import annotations

import fcntl
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from report.conftest import ENVIRONMENT, TINY, command, said_by
from report.reading_pages import Page

pytestmark = pytest.mark.slow  # the fixture trains
PATIENCE = 300.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "RUN: give one run directory or more"),
        (["nothing"], "nothing: is not there; give a run directory"),
        (["."], ".: no run is here (config.json is absent"),
        (["first", "."], ".: no run is here"),
        (["damaged"], "config.json is damaged"),
        (["first", "--out", "."], "--out .: is a directory; give a file"),
        (["first", "--out", "file/report.html"], "--out file: cannot be written"),
        (["first", "--watch", "0"], "--watch 0: give 1 second or more"),
        (["first", "--watch", "inf"], "--watch inf: give 1 second or more"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(root / "runs" / "first")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    done = subprocess.run(command("report", *words), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("zipper: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_an_absent_package_is_named_with_its_extra(
    package: str, root: Path, tmp_path: Path
) -> None:
    code = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {package!r} else find(name, *rest)
sys.argv = ["report", {str(root / "runs" / "first")!r}]
from zipper_dist.report.__main__ import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    said = f"zipper_dist.report: takes the package {package} (pip install 'zipper_dist[report]')"
    assert done.stderr == f"zipper: error: {said}\n"


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
sys.argv = ["zipper_dist.report", "--help"]
from zipper_dist.report.__main__ import main
try:
    main()
finally:
    print("loaded:", [name for name in ("torch", "matplotlib", "jinja2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded: []", done
    assert "--watch" in done.stdout


def until(happened: object, process: subprocess.Popen[str]) -> None:
    """Wait until ``happened()``, while the process goes on."""
    assert callable(happened)
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_goes_on_is_watched_until_it_ends(tmp_path: Path) -> None:
    words = ["digits", *TINY, "--steps", "100000", "--eval.every", "20", "--run-dir", "run"]
    with subprocess.Popen(
        command("train", *words), stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=ENVIRONMENT
    ) as training:
        metrics, page = tmp_path / "run" / "metrics.jsonl", tmp_path / "report.html"
        watching = None
        try:
            until(lambda: metrics.exists() and '"global"' in metrics.read_text(), training)
            watching = watching_with_patience_of(2, tmp_path)
            until(page.exists, watching)
            first = Page(page)
            until(lambda: step(Page(page)) > step(first), watching)
            assert first.refresh == "1"
            assert "in progress" in first.text
            assert "The newest validation of the global learner" in first.text
            assert first.picture("Loss of the learners")
            training.send_signal(signal.SIGTERM)
            assert training.wait(PATIENCE) == 128 + signal.SIGTERM
            said, complaints = watching.communicate(timeout=PATIENCE)
            assert (watching.returncode, complaints) == (0, "")
            until_then = "written anew every 1 s until its runs have ended"
            assert said.splitlines()[-1] == f"the report is in report.html, {until_then}"
        finally:
            for process in filter(None, (training, watching)):
                process.kill()
    last = Page(page)
    assert last.refresh == ""
    assert "ended before it was complete" in last.text
    assert step(last) >= step(first)
    assert not list(tmp_path.glob(".*.tmp"))


def watching_with_patience_of(seconds: float, where: Path) -> subprocess.Popen[str]:
    """The command that watches the run, which takes it for ended after so many seconds."""
    code = f"""
import sys
import zipper_dist.report.run as run
run.SETTLED = {seconds}
sys.argv[1:] = ["run", "--watch", "1"]
from zipper_dist.report.__main__ import main
main()
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=where, env=ENVIRONMENT,
    )  # fmt: skip


def test_a_run_that_starts_again_is_still_watched(root: Path, tmp_path: Path) -> None:
    run, page = (
        shutil.copytree(root / "runs" / "second", tmp_path / "run"),
        tmp_path / "report.html",
    )
    summary = (run / "summary.json").read_bytes()
    (run / "summary.json").unlink()
    watching = watching_with_patience_of(600, tmp_path)
    try:
        # Between a killed rank and its restart nobody has the lock.
        until(page.exists, watching)
        assert Page(page).refresh == "1"
        assert "ended before it was complete" in Page(page).text
        with (run / "run.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            until(lambda: "adversarial: in progress" in Page(page).text, watching)
        until(lambda: "ended before it was complete" in Page(page).text, watching)
        (run / "summary.json").write_bytes(summary)
        _, complaints = watching.communicate(timeout=PATIENCE)
        assert (watching.returncode, complaints) == (0, "")
    finally:
        watching.kill()
    assert Page(page).refresh == ""


def step(page: Page) -> int:
    found = re.search(r"iteration (\d+) is the last on record", page.text)
    assert found
    return int(found[1])


def test_the_commands_of_the_manual_run(root: Path, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "reporting.md"
    lines = [line for line in page.read_text().splitlines() if line.startswith("$ ")]
    commands = [line.removeprefix("$ python -m ").split() for line in lines if "…" not in line]
    assert len(commands) == 3
    for name in ("digits-seed0", "digits-seed1", "digits-trades-seed0"):
        shutil.copytree(root / "runs" / "first", tmp_path / "runs" / name)
    for module, *words in commands:
        assert module == "zipper_dist.report"
        said = said_by("report", *words, cwd=tmp_path)
        assert Page(tmp_path / said.split()[-1]).alts
