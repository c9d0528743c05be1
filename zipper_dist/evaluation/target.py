"""What is evaluated: a network, and what the run that made it says about data and attack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zipper_dist.checkpoint.options import as_json
from zipper_dist.checkpoint.run_directory import RunDirectory
from zipper_dist.checkpoint.state_dicts import read_state_dict, shortened
from zipper_dist.checkpoint.weights import checksum, load_model, load_weights
from zipper_dist.config.json_shape import NUMBER, read_json
from zipper_dist.config.schema import DataConfig
from zipper_dist.config.threat import ThreatModel
from zipper_dist.data import Dataset
from zipper_dist.errors import UserError
from zipper_dist.evaluation.options import EvaluateOptions
from zipper_dist.models import ModelSpec
from zipper_dist.models.normalised import Normalised
from zipper_dist.recipes.registry import is_recipe, recipe
from zipper_dist.registry import load_reference

NONE = type(None)
CONFIG = {
    "options": {
        "data": {"source": str, "root": str, "image_size": (NONE, int), "cache": (NONE, str)},
        "model": {"arch": str},
        "eval": {
            **{"threats": (NONE, [str]), "norm": (NONE, str)},
            **dict.fromkeys(("eps", "step_size"), (NONE, NUMBER)),
        },
        "learners": {str: {"attack": (NONE, {"norm": str, "eps": NUMBER})}},
    }
}
"""What an evaluation goes by in config.json: see :func:`fits`."""


@dataclass(frozen=True)
class Target:
    """A network to evaluate, on the CPU, in eval mode."""

    model: nn.Module
    file: Path
    """Where its weights come from."""
    name: str
    """Ending of the names of the files that results go to; empty for a run's global learner."""
    sha256: str
    """Of its weights, and of the constants by which it normalises images."""
    spec: ModelSpec | None
    """Its description; None for a network of other origin."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """The options of the run that it comes from; empty where they are not known."""


def load_target(options: EvaluateOptions) -> Target:
    """The network that the options name; raises UserError where it is absent or damaged."""
    path = options.target
    if options.model is not None:
        model, state = load_foreign(options.model, path, options.mean, options.std)
        name = f"{path.stem}-{options.model.rpartition(':')[2]}"
        return Target(model, path, name, checksum(state), None)
    if path.is_dir():
        file = RunDirectory(path).weights(options.learner)
        if not file.exists():
            there = sorted(other.stem for other in path.glob("*.safetensors"))
            raise UserError(
                f"{path}: no {file.name} here; --learner can be {', '.join(there)}"
                if there
                else f"{path}: no weights here; give a run directory whose training has ended"
            )
        name = "" if options.learner == "global" else options.learner
    elif path.suffix in (".pt", ".pth"):
        raise UserError(f"{path}: say which network it is for with --model package.module:factory")
    else:
        file, name = path, path.stem
    run = _options_of_run(RunDirectory(file.parent).config)
    spec, state = load_weights(file, options.trust)
    model = load_model(file, options.trust)
    return Target(model, file, name, checksum(constants_of(model) | state), spec, run)


def constants_of(model: nn.Module) -> dict[str, Tensor]:
    """By what a network normalises images: a part of what it computes, so of its checksum too."""
    return {"mean": model.mean, "std": model.std} if isinstance(model, Normalised) else {}


def _options_of_run(config: Path) -> dict[str, Any]:
    """The options in a run's config.json; empty where there is no such file."""
    if not config.exists():
        return {}
    hint = "evaluate the file of weights in another directory, with --data and --threats"
    run: dict[str, Any] = read_json(config, CONFIG, hint)["options"]
    try:
        trained_threats(run), trained_against(run)
    except ValueError as error:
        raise UserError(f"{config} is damaged ({error}); {hint}") from None
    return run


def data_config(target: Target, options: EvaluateOptions) -> DataConfig:
    """The test set, whole: as the options say, or else as the run has it; raises UserError where
    neither says which."""
    run: Mapping[str, Any] = target.run.get("data", {})
    source = options.dataset or run.get("source")
    if source is None:
        raise UserError(
            f"--data: say which data set {target.file} is for: no config.json of a run is beside it"
        )
    same = source == run.get("source")
    size = run.get("image_size")
    if not same:
        size = recipe(source).data.image_size if is_recipe(source) else None
    # The images of a folder may have been resized in training though no option said so.
    by_network = not same or (source == "folder" and size is None)
    if by_network and target.spec is not None and target.spec.height == target.spec.width:
        size = target.spec.height
    root = Path(run["root"]) if same else DataConfig().root
    cache = Path(run["cache"]) if same and run.get("cache") else None
    # No validation set is needed, and "test" cannot be too large for the training set.
    return DataConfig(
        source=source, root=options.data.root or root,
        image_size=options.data.image_size or size, validation="test",
        skip_unreadable=options.data.skip_unreadable or bool(same and run.get("skip_unreadable")),
        store=options.data.store, cache=options.data.cache or cache,
    )  # fmt: skip


class Threats(NamedTuple):
    """What an attacker may do, and the step of the attacks that take one."""

    models: tuple[ThreatModel, ...]
    step_size: float | None = None
    """None: 2.5 eps / steps [1 = the full pixel range]."""


def threats_of(target: Target, source: str, options: EvaluateOptions) -> Threats:
    """The attacker's means: as the options say, or the network's run, or the data set's recipe;
    raises UserError for a radius out of range, and for a norm that needs a radius."""
    run = target.run
    trained = trained_threats(run)
    if not trained and is_recipe(source):
        run = as_json(recipe(source))
        trained = trained_threats(run)
    if not (trained or options.threats or (options.norm and options.eps)):
        raise UserError(f"--threats: give one, because no recipe for {source} says any")
    models = options.threats or trained
    if (options.norm, options.eps) != (None, None):
        first = trained[0] if trained else ThreatModel()
        norm = options.norm or first.norm
        if options.eps is None and norm != first.norm:
            why = f"because the network was trained for {first.norm}"
            raise UserError(f"--norm {norm}: give --eps too, {why}")
        models = (ThreatModel(norm, first.eps if options.eps is None else options.eps),)
    for threat in () if options.threats else models:  # the others are checked
        if problems := list(threat.problems(f"--eps {threat.eps}")):
            raise UserError("; ".join(problems))
    step_size = run["eval"].get("step_size") if trained and models == trained else None
    return Threats(tuple(dict.fromkeys(models)), options.step_size or step_size)


def trained_threats(run: Mapping[str, Any]) -> tuple[ThreatModel, ...]:
    """:meth:`~zipper_dist.config.schema.TrainConfig.threats` from the options as in config.json;
    empty if they do not say. Raises ValueError where they name no norm."""
    evaluation: Mapping[str, Any] = run.get("eval", {})
    if evaluation.get("threats"):
        return tuple(map(ThreatModel.parse, evaluation["threats"]))
    found = trained_against(run)
    norm, eps = evaluation.get("norm"), evaluation.get("eps")
    if eps is not None:
        norm = norm or (found[0].norm if found else "linf")
        return (ThreatModel.parse(f"{norm}:{float(eps)!r}"),)
    return tuple(threat for threat in found if norm in (None, threat.norm))


def trained_against(run: Mapping[str, Any], learner: str = "global") -> tuple[ThreatModel, ...]:
    """What a base learner of a run attacks, or else what all of them do, from the run's options as
    in config.json. Raises ValueError where they name no norm."""
    learners = run.get("learners", {})
    own = [learners[learner]] if learner in learners else learners.values()
    attacks = [a["attack"] for a in own if a.get("attack")]
    each = [ThreatModel.parse(f"{a['norm']}:{float(a['eps'])!r}") for a in attacks]
    return tuple(dict.fromkeys(each))


def check_fit(target: Target, data: Dataset) -> int:
    """The number of classes; raises UserError if the network does not fit the images."""
    spec = target.spec
    needs = _kind(data)
    if spec is not None and _kind(spec) != needs:
        has = f"{data.name} has images of {needs}"
        raise UserError(f"{target.file}: made for images of {_kind(spec)}, but {has}")
    try:
        with torch.no_grad():
            logits: Tensor = target.model(data.test.images[:1].float() / 255)
    except Exception as error:  # whatever the network's own code raises
        reason = " ".join(str(error).split())
        raise UserError(f"{target.file}: cannot take images of {needs}: {reason}") from None
    if not isinstance(logits, Tensor):
        raise UserError(f"{target.file}: gives {type(logits).__name__}, not a tensor of logits")
    if logits.dim() != 2 or logits.shape[1] != data.classes:
        raise UserError(
            f"{target.file}: gives logits of shape {tuple(logits.shape)} for one image of "
            f"{data.name}, which has {data.classes} classes; (1, {data.classes}) is needed"
        )
    return data.classes


def _kind(of: Dataset | ModelSpec) -> str:
    return f"{of.channels}×{of.height}×{of.width} (C×H×W) in {of.classes} classes"


def load_foreign(
    factory: str, file: Path, mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> tuple[nn.Module, dict[str, Tensor]]:  # fmt: skip
    """The network that ``package.module:factory`` makes with the state dict in ``file``, and its
    state dict; raises UserError where they cannot be used or do not fit."""
    made = load_reference(factory, "--model")
    try:
        network = made()  # type: ignore[operator]
    except Exception as error:  # whatever the user's code raises
        reason = f"{type(error).__name__}: {shortened(error)}"
        raise UserError(f"--model {factory}: cannot be made: {reason}") from None
    if not isinstance(network, nn.Module):
        made_what = type(network).__name__
        raise UserError(f"--model {factory}: made a {made_what}, not a torch.nn.Module")
    try:
        network.load_state_dict(read_state_dict(file))
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{file}: does not fit {factory}: {shortened(error)}") from None
    if mean is not None and std is not None:
        network = Normalised(network, mean, std)
    state = constants_of(network) | network.state_dict()
    return network.eval(), {name: t.detach() for name, t in state.items()}
