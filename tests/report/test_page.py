"""The page about one run says what the files of the run say."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from report.conftest import said_by
from report.reading_pages import Page, records_of, summary_of
from zipper_dist.metrics.trace import read_events
from zipper_dist.report.drawing import Line, draw_lines
from zipper_dist.report.page import Section, make_page
from zipper_dist.report.reading import read_run

pytestmark = pytest.mark.slow  # the fixture trains

LEARNERS = ("natural", "adversarial")


def test_accuracies_and_errors_are_those_of_the_summary(root: Path, one: Path) -> None:
    page = Page(one)
    learners = summary_of(root / "runs" / "first")["final"]["learners"]
    expected = [[n, f"{s['clean']:.2f}", f"{s['robust']:.2f}"] for n, s in learners.items()]
    assert page.tables["scores"][1:] == expected
    errors = [
        [n, f"{100 - s['clean']:.2f}", f"{100 - s['robust']:.2f}"] for n, s in learners.items()
    ]
    assert [row[:3] for row in page.tables["errors"][1:]] == errors


def test_what_the_evaluation_found_is_shown(root: Path, one: Path, tmp_path: Path) -> None:
    attacks = json.loads((root / "runs" / "first" / "evaluation.json").read_text())["attacks"]
    rows = {row[0]: row[1] for row in Page(one).tables["evaluation"][1:]}
    assert rows == {name: f"{found['accuracy']:.2f}" for name, found in attacks.items()}
    other = shutil.copytree(root / "runs" / "first", tmp_path / "other")
    shutil.copy(root / "runs" / "second" / "global.safetensors", other)
    said_by("report", str(other), cwd=tmp_path)  # the weights are others than were evaluated
    assert "evaluation" not in Page(tmp_path / "report.html").tables


@pytest.mark.parametrize(
    ("title", "figure"),
    [("Loss of the learners", "loss"), ("Learning rates", "lr"), ("Distance to the", "distance")],
)
def test_curves_begin_and_end_as_the_records(
    root: Path, one: Path, title: str, figure: str
) -> None:
    said = Page(one).picture(title)
    for learner in LEARNERS:
        records = records_of(root / "runs" / "first", learner)
        first, *_, last = [record for record in records if figure in record]
        ends = [f"{r[figure]:.4g} at iteration {r['step']}" for r in (first, last)]
        assert f"{learner}: {', '.join(ends)}" in said


def test_validation_and_mixing_weights_are_those_of_the_records(root: Path, one: Path) -> None:
    page, run = Page(one), root / "runs" / "first"
    first, last = records_of(run, "global")
    for figure in ("clean", "robust"):
        ends = f"{first[figure]:.4g} at iteration 6, {last[figure]:.4g} at iteration 12"
        assert f"{figure}: {ends}" in page.picture("Validation accuracy")
    gammas = [record["gamma"] for record in records_of(run, "natural")]
    assert (gammas[0], gammas[-1]) == (1, 0.5)
    said = page.picture("Mixing weights")
    assert "natural: 0 at iteration 2, 0.5 at iteration 12" in said
    assert "adversarial: 1 at iteration 2, 0.5 at iteration 12" in said


def test_distances_are_those_of_the_weights(root: Path, one: Path) -> None:
    run = root / "runs" / "first"
    theta = load_file(run / "global.safetensors")
    rows = {row[0]: row[3] for row in Page(one).tables["errors"][1:]}
    for name in LEARNERS:
        weights = load_file(run / f"{name}.safetensors")
        both = [
            (weights[k].double(), v.double()) for k, v in theta.items() if v.is_floating_point()
        ]
        distance = math.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in both))
        assert distance > 0
        assert rows[name] == f"{distance:.4g}"
    assert rows["global"] == "0"


def test_distances_are_recorded_once_a_redistribution(root: Path) -> None:
    for name in LEARNERS:
        records = records_of(root / "runs" / "first", name)
        assert [r["step"] for r in records if "distance" in r] == [6, 10]  # after 4 and 8
        assert all(r["distance"] > 0 for r in records if "distance" in r)
    records = records_of(root / "runs" / "trades", "adversarial")
    # There the global learner is the learner.
    assert [r["distance"] for r in records if "distance" in r] == [0, 0]


def test_it_says_what_bounds_the_risk(one: Path) -> None:
    text = Page(one).text
    assert "Theorem 3.2 of the paper bounds the risk of the global learner through RT, " in text
    assert "so that RT cannot be measured" in text


def test_the_timeline_is_of_the_trace(one: Path, root: Path) -> None:
    page = Page(one)
    assert re.match(r"Timeline of the ranks. Rank 0: .*attack \d+ %", page.picture("Timeline"))
    assert "Iterations 5 to 7" in page.text
    file = gzip.decompress(base64.b64decode(page.links["trace"].partition(",")[2]))
    events = [event for event in json.loads(file)["traceEvents"] if event["ph"] == "X"]
    assert events == read_events(root / "runs" / "first" / "trace-0.json")
    ranks = summary_of(root / "runs" / "first")["ranks"]
    assert [row[2] for row in page.tables["ranks"][1:]] == [f"{ranks[0]['busy_seconds']:.1f}"]


def test_a_run_without_trace_or_evaluation_says_how(root: Path, tmp_path: Path) -> None:
    said_by("report", str(root / "runs" / "second"), cwd=tmp_path)
    page = Page(tmp_path / "report.html")
    assert not any(alt.startswith("Timeline") for alt in page.alts)
    assert "Train with --trace FIRST:LAST" in page.text
    assert "zipper_dist.evaluate" in page.text


def test_the_page_needs_no_other_file(one: Path, several: Path) -> None:
    for path in (one, several):
        page = Page(path)
        assert page.sources
        assert all(source.startswith("data:") for source in page.sources)
        assert "url(" not in path.read_text()
        assert "@import" not in path.read_text()
        assert len(page.alts) == sum(s.startswith("data:image") for s in page.sources)
        assert path.stat().st_size < 6_000_000


def test_a_page_that_would_be_too_large_leaves_pictures_out(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from zipper_dist.report import page

    runs = [read_run(root / "runs" / name) for name in ("first", "second")]
    whole = len(page.make_page(runs).encode())
    monkeypatch.setattr(page, "LARGEST", whole - 20_000)
    smaller = page.make_page(runs)
    assert len(smaller.encode()) <= whole - 20_000
    (tmp_path / "page.html").write_text(smaller)
    assert "Left out, as the page would be larger" in Page(tmp_path / "page.html").text
    assert Page(tmp_path / "page.html").tables["scores"]
    assert "pictures of the comparison" not in smaller
    monkeypatch.setattr(page, "LARGEST", 1)
    (tmp_path / "page.html").write_text(page.make_page(runs))
    smallest = Page(tmp_path / "page.html")
    assert smallest.alts == []
    assert "trace" not in smallest.links
    assert "pictures of the comparison" in smallest.text
    assert smallest.tables["groups"]
    # No more than it takes: the progress goes before the trade-off.
    monkeypatch.setattr(page, "LARGEST", (tmp_path / "page.html").stat().st_size + 40_000)
    (tmp_path / "page.html").write_text(page.make_page(runs))
    assert [alt[:6] for alt in Page(tmp_path / "page.html").alts] == ["Robust"]


def test_a_picture_of_very_many_runs_is_not_large() -> None:
    curve = (list(range(1, 1001)), [float(i % 7) for i in range(1000)])

    def size(lines: int) -> int:
        group = [Line(name, curve, "#000000") for name in ("A", *["_"] * (lines - 1))]
        return len(draw_lines(group, "accuracy") or "")

    assert size(10) > 50_000  # points of few curves are all there
    assert size(500) < 800_000


def test_the_timeline_is_packed_once(root: Path) -> None:
    section = Section(read_run(root / "runs" / "first"), {})
    assert section.trace is section.trace


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
LOOK = """<pre id="found"></pre><script>
addEventListener("load", () => {
  const broken = [...document.images].filter(image => image.naturalWidth == 0).length;
  const too_wide = document.documentElement.scrollWidth > innerWidth;
  document.getElementById("found").textContent = `broken ${broken}, too wide ${too_wide}`;
});</script>"""


def seen_in_chromium(path: Path, width: int, profile: Path) -> tuple[str, str]:
    """The DOM, and what the browser says, its console included."""
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    words += [f"--user-data-dir={profile}", f"--window-size={width},900", "--dump-dom"]
    done = subprocess.run(
        [*words, path.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout, done.stderr


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium or Chrome here")
@pytest.mark.parametrize("width", [1280, 500])
def test_chromium_shows_it_without_a_complaint(
    one: Path, several: Path, width: int, tmp_path: Path
) -> None:
    for page in (one, several):
        seen = tmp_path / page.name
        seen.write_text(page.read_text() + LOOK)
        dom, said = seen_in_chromium(seen, width, tmp_path / "profile")
        assert '<pre id="found">broken 0, too wide false</pre>' in dom
        assert "CONSOLE" not in said
    bad = tmp_path / "bad.html"
    bad.write_text("<script>nothing.here()</script>")
    assert "CONSOLE" in seen_in_chromium(bad, width, tmp_path / "profile")[1]


def test_the_choice_of_the_best_weights_is_told_as_it_was(
    root: Path, one: Path, tmp_path: Path
) -> None:
    held_out = "held out (--data.validation 0.1); the test set had no part in the choice"
    assert held_out in Page(one).text
    assert "Best on the validation set: iteration" in Page(one).text
    run = shutil.copytree(root / "runs" / "first", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["options"]["data"]["validation"] = "test"
    config["options"]["eval"]["best_clean"] = 88.0
    (run / "config.json").write_text(json.dumps(config))
    (tmp_path / "page.html").write_text(make_page([read_run(run)]))
    page = Page(tmp_path / "page.html")
    assert "Best on the test set: iteration" in page.text
    assert "on the test set, so that accuracies on it are too high" in page.text
    assert "among those with a clean accuracy of at least 88 %, if there are any" in page.text
    assert page.picture("Test accuracy of the global learner")
    assert "validation images" not in page.text
    assert "held out" not in page.text


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["/somewhere/zipper_dist/train.py", "digits", "--seed", "3"], "digits --seed 3"),
        (["/usr/bin/zipper-train", "digits"], "digits"),
        (["zipper_dist.train", "digits"], "digits"),
        (["study.py", "--fast"], None),
        (["/somewhere/train.py", "digits"], None),
        (["-c"], None),
        (["/a/zipper_dist/train.py", "--config", "/tmp/zipper-fit-x/options.json"], None),
        ([], None),
    ],
)
def test_a_run_from_python_shows_no_command(
    command: list[str], shown: str | None, root: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(root / "runs" / "first", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"command": command}))
    (tmp_path / "page.html").write_text(make_page([read_run(run)]))
    text = Page(tmp_path / "page.html").text
    if shown is None:
        assert "Begun from Python (zipper_dist.fit" in text
        assert "python -m zipper_dist.train" not in text
    else:
        assert f"Command: python -m zipper_dist.train {shown} " in text
        assert "Begun from Python" not in text
