"""Checkpoints: atomic, checksummed, one file for each learner, for an exact resume.

Learners may continue from different iterations, where a signal stopped their ranks, as long as they
have the last redistribution in common (:func:`choose`).
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from zipper_dist.checkpoint.files import set_aside, write_atomically
from zipper_dist.config.json_shape import fits

KEEP = 3
DIGEST_SIZE = hashlib.sha256().digest_size


class DamagedCheckpoint(Exception):
    """A checkpoint file is not what this version wrote."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What is in a checkpoint file of ``learner`` after iteration ``step``."""

    learner: str
    step: int
    synced_at: int  # iteration of the last redistribution, or of the last copies of guides
    posted: list[int]  # iterations of all snapshots for validation so far
    kept: list[int]  # those whose shares are in the file
    evaluated: list[int]  # those known to be evaluated
    identity: str  # of the run: its options, in a digest


ABOUT = {
    "info": {
        **{"learner": str, "step": int, "synced_at": int, "identity": str},
        **{"posted": [int], "kept": [int], "evaluated": [int]},
    },
    "notes": dict,
}


@dataclass
class LearnerCheckpoint:
    """The state of one learner: groups of tensors, and ``notes``, the JSON state of its process."""

    info: CheckpointInfo
    groups: Mapping[str, Mapping[str, Tensor]]
    notes: dict[str, Any] = field(default_factory=dict)


def path_of(directory: Path, learner: str, step: int) -> Path:
    """Where the checkpoint of ``learner`` after iteration ``step`` is."""
    return directory / f"{learner}-{step:08d}.ckpt"


def save(directory: Path, part: LearnerCheckpoint) -> Path:
    """Write a part: a SHA-256 of the rest of the file, then a safetensors file."""
    about = json.dumps({"info": asdict(part.info), "notes": part.notes}).encode()
    tensors = {
        f"{group}:{name}": tensor.detach().cpu().contiguous()
        for group, named in part.groups.items()
        for name, tensor in named.items()
    }
    tensors["about"] = torch.frombuffer(bytearray(about), dtype=torch.uint8)
    content = safetensors.torch.save(tensors)
    path = path_of(directory, part.info.learner, part.info.step)
    write_atomically(path, hashlib.sha256(content).digest() + content)
    return path


def load(path: Path) -> LearnerCheckpoint:
    """Read a part; raises DamagedCheckpoint if the file is not what this version wrote, and an
    OSError that names it if it cannot be read."""
    try:
        raw = path.read_bytes()
    except OSError as error:  # some name no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    digest, content = raw[:DIGEST_SIZE], raw[DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise DamagedCheckpoint("the checksum does not match its content")
    try:
        tensors = safetensors.torch.load(content)
        about = json.loads(bytes(tensors.pop("about").numpy()))
        if not fits(about, ABOUT):
            raise ValueError("it lacks what it should say of itself")
        groups: dict[str, dict[str, Tensor]] = {}
        for joined, tensor in tensors.items():
            group, _, name = joined.partition(":")
            groups.setdefault(group, {})[name] = tensor
        return LearnerCheckpoint(CheckpointInfo(**about["info"]), groups, about["notes"])
    except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        raise DamagedCheckpoint(f"of another version: {error}") from error


def steps_of(directory: Path, learner: str) -> list[int]:
    """Iterations of the checkpoint files of ``learner``, newest first; OSError if a directory that
    is there cannot be listed, of which ``glob`` says nothing."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    matches = (re.fullmatch(rf"{re.escape(learner)}-([0-9]{{8}})\.ckpt", name) for name in names)
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def survey(directory: Path, learner: str, identity: str) -> tuple[list[CheckpointInfo], list[str]]:
    """The checkpoints of ``learner`` in the run ``identity`` that can be used, newest first, and a
    message for each file that is left out: damaged, or of another run, learner or iteration.

    OSError: one cannot be read for now. What is in it is not known, so it must not be given up.
    """
    usable, complaints = [], []
    for step in steps_of(directory, learner):
        path = path_of(directory, learner, step)
        try:
            info = load(path).info
        except (DamagedCheckpoint, FileNotFoundError, IsADirectoryError) as error:
            complaints.append(f"damaged checkpoint left out: {path}: {error}")
            continue
        if info.identity != identity:
            complaints.append(f"checkpoint left out: {path}: of another run, with other options")
        elif info.learner != learner:
            complaints.append(
                f"checkpoint left out: {path}: holds learner {info.learner}, not {learner}"
            )
        elif info.step != step:
            complaints.append(f"checkpoint left out: {path}: of iteration {info.step}, not {step}")
        else:
            usable.append(info)
    return usable, complaints


def keep_only(
    directory: Path, usable: Sequence[CheckpointInfo], learner: str, chosen: int | None
) -> None:
    """Leave only what a run that continues from iteration ``chosen`` of ``learner``, or from the
    start, may ever continue from. What is not ``usable`` gets another name, ending in ``.unused``,
    and all does where nothing was chosen; what is newer will be made again, and is deleted."""
    known = {info.step for info in usable}
    for step in steps_of(directory, learner):
        path = path_of(directory, learner, step)
        if chosen is None or step not in known:
            set_aside(path)
        elif step > chosen:
            path.unlink(missing_ok=True)


def choose(
    parts: Mapping[str, Sequence[CheckpointInfo]],
    leader: str,
    together: Callable[[str], Collection[str]],
) -> dict[str, CheckpointInfo] | None:
    """The newest parts, one for each learner, that can continue together; None if there are none.

    ``together`` says which learners keep step with one, itself among them: their parts must be of
    the same iteration. The newest have the latest iteration of the slowest learner, then the
    largest sum.
    """
    candidates = []
    for first in parts[leader]:  # each learner depends on the leader's part alone
        fitting = {
            name: {part.step: part for part in found if _fits(part, first)}
            for name, found in {**parts, leader: [first]}.items()
        }
        common = {
            name: set.intersection(*(set(fitting[other]) for other in together(name)))
            for name in parts
        }
        if all(common.values()):
            candidates.append({name: fitting[name][max(common[name])] for name in parts})

    def age(candidate: Mapping[str, CheckpointInfo]) -> tuple[int, int]:
        steps = [part.step for part in candidate.values()]
        return min(steps), sum(steps)

    return max(candidates, key=age, default=None)


def _fits(part: CheckpointInfo, leader: CheckpointInfo) -> bool:
    """Whether they can continue together: they have seen the same last redistribution, and ``part``
    has posted all that the leader has evaluated, and can post the rest again."""
    evaluated = set(leader.evaluated)
    return (
        part.synced_at == leader.synced_at
        and set(part.posted) <= evaluated | set(part.kept)
        and evaluated <= set(part.posted)
    )


def prune(
    directory: Path,
    mine: Iterable[str],
    learners: Sequence[str],
    reached: int,
    keep: int = KEEP,
    elsewhere: Collection[str] = (),
) -> None:
    """Delete the checkpoints of ``mine`` that are older than the newest ``keep`` complete ones.

    ``reached``: an iteration that all learners are known to have come to. One whose checkpoints are
    elsewhere may not have made those of it, or later ones, yet; but all that come before.
    ``elsewhere``: learners that are saved in other directories now. Files of theirs that are here,
    of an earlier placement, say nothing.
    """
    found = [
        set() if learner in elsewhere else set(steps_of(directory, learner)) for learner in learners
    ]
    present = [steps for steps in found if steps]
    complete = sorted(set.intersection(*present), reverse=True) if present else []
    if len(present) < len(found):
        complete = [step for step in complete if step < reached]
    if len(complete) < keep:
        return
    for learner in mine:
        for step in steps_of(directory, learner):
            if step < complete[keep - 1]:
                path_of(directory, learner, step).unlink(missing_ok=True)
