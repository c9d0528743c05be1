"""A directory as the Hugging Face Hub expects it: weights, their description and a model card."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zipper_dist
from zipper_dist.errors import UserError
from zipper_dist.evaluation.results.in_words import choice_of_weights
from zipper_dist.evaluation.results.report import wilson_interval
from zipper_dist.export.base import EXPORTERS, Subject, write
from zipper_dist.export.plain_source import checked_source, is_ours
from zipper_dist.registry import require

WEIGHTS = "model.safetensors"

CARD = """\
---
{% for name, value in front.items() -%}
{{ name }}: {{ value | tojson }}
{% endfor -%}
---

# {{ subject.name }}

{{ what }}.
{%- if subject.about.title %}

Described in {{ subject.about.title }}
{%- if subject.about.authors %}, by {{ subject.about.authors }}{% endif %}
{%- if subject.about.venue %}, {{ subject.about.venue }}{% endif %}
{%- if subject.about.link %}: {{ subject.about.link }}{% endif %}.
{%- endif %}

## Use

```python
from {{ "model" if plain else "zipper_dist" }} import load_model

network = load_model("model.safetensors"{{ ", trust=True" if own and not plain else "" }})
logits = network(images)
```

The images are {{ shape }}, float32 in [0, 1]; they are not to be normalised.
{%- if plain %} model.py is plain torch.{% endif %}
{%- if own and not plain %}

Its code is not among these files: `{{ subject.spec.arch }}` is needed, where that says, and
`trust=True` imports, and so runs, it.
{%- endif %}

## Threat model
{% if subject.threats %}
{% for threat in subject.threats -%}
- {{ threat.norm }}, ε = {{ "%.4g" | format(threat.eps) }}, where 1 is the full pixel range
{% endfor %}
{%- else %}
None is known.
{% endif %}
## Training

- data: {{ subject.data or "not known" }}
{%- if options %}
{%- if options.data.extra %}
- generated images: {{ options.data.extra }}, {{ options.data.extra_fraction }} of every minibatch
{%- endif %}
- recipe: `{{ options.recipe }}`
- command: `{{ command }}`
- options, all of them: [training.json](training.json)
- {{ chosen }}
{%- else %}
- how it was trained is not known: only the weights were exported
{%- endif %}

## Accuracy
{% if rows %}
| attack | accuracy | 95 % interval | images |
| --- | ---: | ---: | ---: |
{% for row in rows -%}
| {{ row.name }} | {{ row.shown }} | {{ row.between }} | {{ row.n }} |
{% endfor %}
{{ measured }}
{%- for warning in warnings %}

**Warning:** {{ warning }}
{%- endfor %}
{% else %}
It was not measured.
{% endif %}
## Limits

- Robust accuracy is an upper bound: a stronger attack may break more images.
- It holds for the threat model above, and says nothing of other perturbations: other norms, larger
  radii, rotations, noise, or images from elsewhere.
- The interval says where the accuracy on all such images lies, not how much a stronger attack
  would break.
{%- if not complete %}
- It was not measured by AutoAttack on the whole test set.
{%- endif %}
- Made for research. Test it on your own images before you rely on it.

Exported by zipper_dist {{ version }}.
"""


@EXPORTERS.register("hub")
def hub(subject: Subject, out: Path) -> Iterator[str]:
    """Write model.safetensors, config.json, README.md, the options of the training, and model.py
    where the network's source can be copied."""
    require(["jinja2"], "hub", "--to hub")
    import jinja2

    rows, measured, complete = _accuracies(subject)
    weights, model = subject.file.read_bytes(), None
    try:
        model = checked_source(subject, WEIGHTS, weights)
    except UserError as error:
        yield f"without model.py, so that users need zipper_dist: {error}"
    write(out / WEIGHTS, weights)
    if model is not None:
        write(out / "model.py", model)
    else:
        _remove_stale(out / "model.py")
    write(out / "config.json", _as_json(_description(subject)))
    options = subject.config.get("options", {})
    if options:
        write(out / "training.json", _as_json(options))
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    card = environment.from_string(CARD).render(
        front=_front_matter(subject, rows),
        subject=subject,
        what=_sentence(subject),
        shape=f"(N, {subject.spec.channels}, {subject.spec.height}, {subject.spec.width})",
        plain=model is not None,
        own=subject.spec.needs_trust,
        options=options,
        command=_command(subject),
        chosen=_chosen_by(subject),
        rows=[row | _cells(row) for row in rows],
        measured=measured,
        complete=complete,
        warnings=subject.evaluation.get("warnings", []),
        version=zipper_dist.__version__,
    )
    write(out / "README.md", card)
    if not complete:
        command = f"python -m zipper_dist.evaluate {subject.file.parent}"
        yield f"the card has no AutoAttack result on the whole test set: {command}"
    if not subject.about.license:
        yield "the card names no licence: --about.license mit, or what you choose"


def _remove_stale(path: Path) -> None:
    """Remove the model.py of an earlier export, which is of another network."""
    if path.exists() and is_ours(path.read_text(errors="replace")):
        path.unlink()


def _sentence(subject: Subject) -> str:
    """What the network is, in one sentence."""
    spec = subject.spec
    arch = spec.arch.rpartition(":")[2]
    width = f", width {spec.width_multiplier:g}" if spec.width_multiplier != 1 else ""
    size = f"{spec.channels}×{spec.height}×{spec.width}"
    purpose = ", meant to withstand adversarial perturbations" if subject.threats else ""
    return f"A classifier ({arch}{width}) of {size} images in {spec.classes} classes{purpose}"


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Accuracy and interval of a row of the table, as they are shown."""
    low, high = row["interval"]
    return {"shown": f"{row['accuracy']:.2f} %", "between": f"{low:.2f} … {high:.2f} %"}


def _accuracies(subject: Subject) -> tuple[list[dict[str, Any]], str, bool]:
    """The rows of the table, how they were measured, and whether AutoAttack saw the whole test
    set."""
    if found := subject.evaluation:
        data = found["data"]
        rows = [{"name": name, **figure} for name, figure in found["attacks"].items()]
        before = "the first " if data["chosen"] == "the first" else ""
        after = ", chosen at random," if data["chosen"] == "at random" else ""
        versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        passed = [check["passed"] for check in found["sanity"]]
        checks = (
            f" Of the sanity checks against masked gradients {sum(passed)} of {len(passed)} passed."
        )
        measured = (
            f"Measured on {before}{data['images']} of {data['of']} test images of {data['name']}"
            f"{after} with seed {found['seed']} on {found['device']} ({versions}): an image counts "
            "if it is classified right as it is and under the attack; `aa` is the standard version "
            f"of AutoAttack. The intervals are Wilson's.{checks if passed else ''}"
        )
        tested = any(name.partition("@")[0] == "aa" for name in found["attacks"])
        return rows, measured, tested and data["images"] == data["of"]
    if not subject.summary:
        return [], "", False
    final, attack = subject.summary["final"], subject.summary["evaluation_attack"]
    rows = []
    for name, accuracy in final["learners"][subject.file.stem].items():
        n = final["images"]
        interval = wilson_interval(round(accuracy * n / 100), n)
        shown = name.replace("robust", f"pgd-{attack['steps']}")
        rows.append({"name": shown, "accuracy": accuracy, "interval": interval, "n": n})
    text = f"by PGD with {attack['steps']} steps on test images, at the end of the training"
    return rows, f"Measured {text}; the intervals are Wilson's.", False


def _front_matter(subject: Subject, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the Hub reads: tags, and the results as its model index has them."""
    task = {"type": "image-classification", "name": "Image classification"}
    data = {"type": subject.data or "unknown", "name": subject.data or "unknown", "split": "test"}
    metrics = [
        {
            "type": "accuracy",
            "name": f"accuracy ({row['name']})",
            "value": round(row["accuracy"], 2),
        }
        for row in rows
    ]
    front: dict[str, Any] = {"license": subject.about.license} if subject.about.license else {}
    front |= {
        "pipeline_tag": "image-classification",
        "tags": ["adversarial-robustness", "adversarial-training", "pytorch", "zipper_dist"],
    }
    if subject.data:
        front["datasets"] = [subject.data]
    if metrics:
        front["metrics"] = ["accuracy"]
        results = [{"task": task, "dataset": data, "metrics": metrics}]
        front["model-index"] = [{"name": subject.name, "results": results}]
    return front


def _description(subject: Subject) -> dict[str, Any]:
    """What config.json says of the network."""
    return {
        "model_type": "zipper_dist",
        "architectures": [subject.spec.arch.rpartition(":")[2]],
        **asdict(subject.spec),
        "input_range": [0.0, 1.0],
        "threat_models": [asdict(threat) for threat in subject.threats],
        "dataset": subject.data,
        "zipper_dist_version": zipper_dist.__version__,
    }


def _command(subject: Subject) -> str:
    """What the training was started with, without the path of the program."""
    words = subject.config.get("command") or [""]
    return shlex.join(["python", "-m", "zipper_dist.train", *words[1:]])


def _chosen_by(subject: Subject) -> str:
    """Where the weights of a run come from: the end of the run, or a choice on which images."""
    words = choice_of_weights(subject.file, subject.config.get("options", {})).words
    return words.replace("on the test set", "**on the test set**")


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
