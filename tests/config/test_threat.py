"""Threat models as options: what is read, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation.commands import evaluate

from zipper_dist.config.command_line import parse_options
from zipper_dist.config.threat import ThreatModel, problems_of
from zipper_dist.errors import UserError
from zipper_dist.evaluation.options import EvaluateOptions, validate


def read(*words: str) -> EvaluateOptions:
    return parse_options(EvaluateOptions, ["run", *words], "zipper_dist.evaluate")


@pytest.mark.parametrize("option", ["--threat", "--threats"])
def test_several_at_once_by_either_name(option: str) -> None:
    options = read(option, "linf:8/255", "l2:0.5", "--attacks", "clean")
    assert options.threats == (ThreatModel("linf", 8 / 255), ThreatModel("l2", 0.5))
    validate(options)


MALFORMED = {
    "linf": "('' is no radius)",
    "linf:": "('' is no radius)",
    "linf:abc": "('abc' is no radius)",
    "linf:nan": "('nan' is no radius)",
    "linf:8/0": "('8/0' is no radius)",
    "linf:0.1,l2:1": "('0.1,l2:1' is no radius)",
    "l7:0.1": "('l7' is no norm)",
    "0.1": "('0.1' is no norm)",
}


@pytest.mark.parametrize(("word", "why"), MALFORMED.items())
def test_what_is_no_threat_model_is_one_line(word: str, why: str) -> None:
    """Raised while the options are read: nothing has been started or loaded."""
    with pytest.raises(UserError) as raised:
        read("--threat", "l2:1", word)
    assert str(raised.value) == (
        f"--threats {word!r} is not a threat model {why}: give linf:8/255 or l2:0.5, several with "
        "spaces between them"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("linf:0",), "--threats linf:0.0: give a radius above 0 and up to 1"),
        (("linf:0.1", "l2:-0.5"), "--threats l2:-0.5: give a radius above 0 and up to 1000"),
        (("linf:8",), "--threats linf:8.0: give a radius above 0 and up to 1"),
        (("l2:inf",), "--threats l2:inf: give a radius above 0"),
        (("l2:1", "linf:0.1", "l2:1.0"), "--threats l2:1.0 l2:1.0: the same; give each"),
        (("linf:8/255", "linf:0.0313725"), "linf:0.0313725: the same to six digits; give each"),
    ],
)
def test_radii_and_repetitions_are_one_line(words: tuple[str, ...], says: str) -> None:
    """Before the network, here an absent one, is looked for."""
    with pytest.raises(UserError) as raised:
        validate(read("--threats", *words))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert ";" not in str(raised.value).replace("; give", "")  # of one fault, one line


def test_equal_radii_of_two_norms_are_two_threat_models() -> None:
    assert list(problems_of((ThreatModel("linf", 0.5), ThreatModel("l2", 0.5)), "--threats")) == []


@pytest.mark.slow
def test_the_command_ends_at_once(tmp_path: Path) -> None:
    for ranks in (0, 2):
        done = evaluate(tmp_path / "absent", "--threat", "l7:0.1", ranks=ranks)
        assert done.returncode != 0 if ranks else done.returncode == 2
        errors = [line for line in done.stderr.splitlines() if "zipper: error: " in line]
        assert len(errors) == 1
        assert "--threats 'l7:0.1' is not a threat model ('l7' is no norm)" in errors[0]
        assert not list(tmp_path.iterdir())
