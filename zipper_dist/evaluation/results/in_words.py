"""What readers of a figure for robust accuracy doubt, answered in plain words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from zipper_dist.config.threat import ThreatModel
from zipper_dist.evaluation.results.sanity import Check


class Choice(NamedTuple):
    """On which images the weights were chosen."""

    on: Literal["nothing", "held-out images", "test set", "unknown"]
    words: str
    """A clause."""


def choice_of_weights(file: Path, run: Mapping[str, Any]) -> Choice:
    """How the weights in ``file`` were chosen in the run with these options, as in config.json;
    empty where there is no run."""
    if not run:
        words = "how the weights were chosen is not known, because no config.json of a run is there"
        return Choice("unknown", words)
    if file.stem not in ("best", "global", *run.get("learners", {})):
        words = f"how the weights were chosen is not known: no run leaves a file {file.name}"
        return Choice("unknown", words)
    start = run.get("model", {}).get("weights")
    more = f"; what those were chosen on that it started from is not known ({start})"
    more = more if start else ""
    if file.stem != "best":
        words = "the weights are those of the end of the training: none were chosen by accuracy"
        return Choice("nothing", words + more)
    best = "the weights are the best of several by their accuracy"
    validation = run.get("data", {}).get("validation")
    if validation is None:
        return Choice("unknown", f"{best}; on which images is not known")
    if validation == "test":
        return Choice("test set", f"{best} on the test set, so that accuracies on it are too high")
    held_out = f"on training images that were held out (--data.validation {validation})"
    words = f"{best} {held_out}; the test set had no part in the choice"
    return Choice("held-out images", words + more)


def threat_in_words(threats: Sequence[ThreatModel], trained: Sequence[ThreatModel] | None) -> str:
    """What the attacker may do, and what the network was ``trained`` against (None: not known)."""
    told = ["; ".join(map(_ball, threats)) + "; 1 is the full range of a pixel."]
    if len(threats) > 1:
        told.append(
            "Union: an image counts as robust only if no attack under any of these breaks it."
        )
    told.append(
        "The attacker knows the network and its gradients and wants any wrong class; attacked "
        "images stay in [0, 1]."
    )
    if trained is not None:
        named = " and ".join(threat.words() for threat in trained) or "no attack"
        told.append(f"The network was trained against {named}.")
    return " ".join(told)


def _ball(threat: ThreatModel) -> str:
    if threat.norm == "linf":
        words = f"{threat.words()} ({255 * threat.eps:.4g}/255)"
        return f"{words}: each value of a pixel may change by as much"
    return f"{threat.words()}: the change of all pixels together may be as long (Euclidean length)"


def images_in_words(data: Mapping[str, Any], seed: int) -> str:
    """Which images, from ``data`` as in evaluation.json, and the ``seed`` of the attacks."""
    of = f"of the {data['of']} test images of {data['name']}"
    words = {
        "all": f"All {data['of']} test images of {data['name']}.",
        "the first": f"The first {data['images']} {of}, in the order of the data set.",
        "at random": f"{data['images']} {of}, drawn at random by a fixed seed: the same ones for "
        "every network and every --seed.",
    }[data["chosen"]]
    return f"{words} The attacks draw by --seed {seed}."


def checks_in_words(checks: Sequence[Check], images: int, attacks: Sequence[str]) -> str:
    """What the checks on some ``images`` said; ``attacks``: names of the lines of the table."""
    failed = [check.name for check in checks if not check.passed]
    if not checks:
        words = "None was made for masked gradients and other mistakes; --sanity makes them."
    elif failed:
        words = (
            f"{len(failed)} of {len(checks)} for masked gradients and other mistakes failed, on "
            f"{images} of the images ({', '.join(failed)}): robust accuracy may be an illusion."
        )
    else:
        words = (
            f"All {len(checks)} for masked gradients and other mistakes passed, on {images} of the "
            "images."
        )
    if not any(name.partition("@")[0] == "aa" for name in attacks):
        words += " AutoAttack (aa), which may break more, was not run."
    return words
