"""The page of the measurement, its picture, and scaling.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from scaling.accounting import summarise
from scaling.cases import BASELINES, EQUAL, UNEQUAL, Network
from scaling.measuring import Measured
from scaling.plots import draw
from scaling.predictions import RANKS, predicted
from scaling.targets import speedups, targets
from zipper_dist.checkpoint.files import write_atomically
from zipper_dist.checkpoint.run_directory import write_json

HEAD = ["variant", "ranks", "shards", "seconds", "speed-up", "waiting", "communication"]
HEAD += ["at redistributions", "busy, by rank"]


def report(networks: Sequence[Network], measured: Measured) -> dict[str, Any]:
    """The figures of each network, by variant; ``unequal``, ``predicted`` and ``targets``."""
    found: dict[str, Any] = {}
    for network in networks:
        about = measured.about[network.name]
        each: dict[str, Any] = {
            name: summarise(bouts) | {"items": [rank["items"] for rank in about["equal"][name]]}
            for name, bouts in measured.of(network.name, "equal").items()
        }
        for figures in each.values():
            figures["busy"] = 1 - figures["waiting"] - figures["communication"]
        for name, factor in speedups(each).items():
            each[name] |= {"speedup": factor, "over": BASELINES[name]}
        unequal = {
            name: summarise(bouts) | {"items": [rank["items"] for rank in about["unequal"][name]]}
            for name, bouts in measured.of(network.name, "unequal").items()
        }
        faster = unequal["shared"]["seconds"] / unequal["balanced"]["seconds"]
        unequal["balanced"] |= {"speedup": faster, "over": "shared"}
        each["unequal"] = unequal
        serial = about["equal"]["serial"][0]
        each["predicted"] = predicted(each, serial["weights_bytes"], network)
        each["precision"] = serial["precision"]
        each["targets"] = [vars(t) | {"met": t.met, "verdict": t.verdict} for t in targets(each)]
        found[network.name] = each
    return found


def rows(found: Mapping[str, Any], network: Network) -> Iterator[list[str]]:
    """Cells of the main table of a network."""
    for each in EQUAL:
        yield _row(each.name, each.ranks, each.shards, found[each.name])
    for each in UNEQUAL:
        yield _row(f"unequal {each.name}", each.ranks, each.shards, found["unequal"][each.name])


def _row(name: str, ranks: int, shards: int, r: Mapping[str, Any]) -> list[str]:
    faster = f"{r['speedup']:.3f} × {r['over']}" if "speedup" in r else "–"
    return [
        name, str(ranks), str(shards), f"{r['seconds']:.3f}", faster, f"{r['waiting']:.1%}",
        f"{r['communication']:.1%}", f"{r['stopped_at_sync']:.2%}",
        ", ".join(f"{busy:.1%}" for busy in r["by_rank"]["busy"]),
    ]  # fmt: skip


def write(
    networks: Sequence[Network], figures: Mapping[str, Any], out: Path, about: Mapping[str, Any]
) -> None:
    """Write scaling.json, scaling.md and scaling.png; ``about``: machine, versions, command."""
    write_json(out / "scaling.json", {**figures, **about})
    draw(figures, out / "scaling.png")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("page.md.jinja").render(
        networks=networks,
        figures=figures,
        about=about,
        head=HEAD,
        rows={network.name: list(rows(figures[network.name], network)) for network in networks},
        targets={n.name: [t.row() for t in targets(figures[n.name])] for n in networks},
        ranks=RANKS,
    )
    write_atomically(out / "scaling.md", f"{text.strip()}\n".encode())
