"""The table at the end of a run, from its summary."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def duration(seconds: float) -> str:
    """``seconds`` as 1:23:45 or 12:34."""
    hours, rest = divmod(max(0, round(seconds)), 3600)
    head = f"{hours}:{rest // 60:02}" if hours else f"{rest // 60}"
    return f"{head}:{rest % 60:02}"


def attack_in_words(attack: Mapping[str, Any]) -> str:
    """The ``evaluation_attack`` of summary.json; of several threat models it is their union."""
    each = attack["threats"] if attack.get("norm") is None else [attack]
    threats = [f"{a['norm']} ε {a['eps']:.4g}" for a in each]
    return f"PGD-{attack['steps']}, {' and '.join(threats)}"


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print summary.json: accuracy of every learner, and where the time of every rank went."""
    final, attack = summary["final"], summary["evaluation_attack"]
    title = f"{summary['recipe']}: accuracy on {final['images']} test images"
    table = Table("learner", title=title)
    table.add_column("clean", justify="right")
    table.add_column(attack_in_words(attack), justify="right")
    for name, scores in final["learners"].items():
        table.add_row(name, f"{scores['clean']:.2f} %", f"{scores['robust']:.2f} %")
    console.print(table)
    if best := summary.get("best"):
        scores = f"clean {best['clean']:.2f} %, robust {best['robust']:.2f} %"
        text = f"best on the validation set: iteration {best['step']}, {scores}"
        console.print(text, highlight=False)
    times = Table(title=f"{summary['steps']} iterations in {duration(summary['wall_seconds'])}")
    for heading in ("rank", "learners", "training", "evaluating", "waiting", "syncs", "sent"):
        times.add_column(heading, justify="left" if heading == "learners" else "right")
    for rank in summary["ranks"]:
        times.add_row(
            str(rank["rank"]),
            ", ".join(rank["learners"]),
            f"{rank['busy_seconds']:.1f} s",
            f"{rank['eval_seconds']:.1f} s",
            f"{rank['wait_seconds']:.1f} s",
            str(rank["syncs"]),
            f"{rank['comm_bytes'] / 1e6:.2f} MB",
        )
    console.print(times)
