"""What is known of an image that was predicted, and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from zipper_dist.config.threat import ThreatModel

NO_PROOF = (
    "“not changed” means that this attack found nothing. It is an attack, not a certificate: a "
    "stronger one may still change the prediction."
)


@dataclass(frozen=True)
class Guess:
    """A class that an image may be of."""

    name: str
    """Its name; its number where the weights have no names."""
    number: int
    """Its number."""
    probability: float
    """The softmax of the logits, 0 … 1: how sure the network is, not how often it is right."""


@dataclass(frozen=True)
class Attacked:
    """What an attack made of a prediction."""

    threat: ThreatModel
    """What it was allowed to do."""
    changed: bool
    """Whether it changed the first class; False proves nothing, as another attack might."""
    to: str | None
    """The name of the class that it changed it to; None if it did not, or if the network gives no
    finite logits any more."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of an image."""

    file: str
    """The path of the image."""
    top: tuple[Guess, ...]
    """The most probable classes, the first of which is the answer."""
    attacks: tuple[Attacked, ...] = ()
    """What each attack made of that."""


def show(predictions: Sequence[Prediction], attack: str, console: Console) -> None:
    """Print a table; ``attack`` is the name of the attack on the predictions, if there was one."""
    table = Table("image", "prediction")
    table.columns[0].overflow = "fold"
    threats = [each.threat.words() for each in predictions[0].attacks]
    for threat in threats:
        table.add_column(f"{attack}, {threat}")
    for prediction in predictions:
        best = "\n".join(f"{100 * g.probability:5.1f} %  {g.name}" for g in prediction.top)
        verdicts = [
            f"changed to {each.to or 'no answer'}" if each.changed else "not changed"
            for each in prediction.attacks
        ]
        table.add_row(*map(Text, (prediction.file, best, *verdicts)))
    console.print(table)
    for number, threat in enumerate(threats):
        changed = sum(prediction.attacks[number].changed for prediction in predictions)
        console.print(f"{threat}: {changed} of {len(predictions)} predictions changed")
    if threats:
        console.print(NO_PROOF, highlight=False)
