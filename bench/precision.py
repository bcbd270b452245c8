"""``python -m bench.precision``: what the engine's weight types cost on the demo bundle.

For each precision: the demo's figures on unseen avatars, with draws of their own as in use, and how
far pictures move when everything but the precision is the same. Writes
``bench/results/<name>.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

import lreorg_fast as lf
from bench.machine import describe
from bench.markdown import write_results
from lreorg_fast.demo.figures import Measurement, draw_people
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.models.pixels import to_tensor

SEED = 3
DTYPES = ("float32", "bfloat16", "int8")
SHOWN = (
    "default: filled",
    "default: PSR (random)",
    "default: similarity to the person",
    "default: gender preserved",
    "default: age preserved",
    "default: expression preserved",
    "default: makeup preserved",
    "default: mean preserved",
    "reversed with the key: recognised",
)
LEVELS = 255 / 2  # a difference in [-1, 1] in levels of 8 bits


@torch.inference_mode()
def moved(anonymizer: lf.Anonymizer, exact: lf.Anonymizer, probes: list[Any]) -> dict[str, float]:
    """Against ``exact``: the same latents, the same replacement (the neighbour's own feature)."""
    latents = exact.encoder(to_tensor(probes))
    feature, _ = exact.engine.disentangle(latents, "identity")
    replace = {"identity": feature.roll(1, dims=0)}
    made, expected = (
        a.engine.reorganize(latents, replace, DEFAULT_KEEP) for a in (anonymizer, exact)
    )
    pictures = [exact.generator.synthesis(x).clamp(-1, 1) for x in (made, expected)]
    levels = (pictures[0] - pictures[1]).abs() * LEVELS
    return {
        "latent_rms": float((made - expected).square().mean().sqrt()),
        "latent_max": float((made - expected).abs().max()),
        "change_rms": float((expected - latents).square().mean().sqrt()),
        "pixel_mean_levels": float(levels.mean()),
        "pixel_max_levels": float(levels.max()),
    }


def measure(count: int, dtypes: list[str]) -> dict[str, Any]:
    exact = lf.Anonymizer.load("demo", backend="reference", dtype="float64", precision="float32")
    people = draw_people(count, SEED, exact.resolution)
    results: dict[str, Any] = {}
    for dtype in dtypes:
        print(f"{dtype}: {count} people", flush=True)
        anonymizer = lf.Anonymizer.load("demo", backend="cpu", dtype=dtype)
        figures = Measurement(anonymizer, people).quick()
        results[dtype] = {
            "engine": anonymizer.engine.build_info(),
            "moved": moved(anonymizer, exact, people.probes),
            "figures": {name: dataclasses.asdict(figure) for name, figure in figures},
        }
    return results


def markdown(results: dict[str, Any]) -> str:
    """One column per precision."""
    lines = [
        "| | " + " | ".join(results) + " |",
        "|---|" + "---:|" * len(results),
        "| activations in products | "
        + " | ".join(r["engine"]["activations"] for r in results.values())
        + " |",
    ]
    for name in next(iter(results.values()))["moved"]:
        row = [f"{r['moved'][name]:.2g}" for r in results.values()]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(row)} |")
    for name in SHOWN:
        row = [
            "{value:.3f} ({low:.3f} to {high:.3f})".format(**r["figures"][name])
            for r in results.values()
        ]
        lines.append(f"| {name} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.precision", description=__doc__)
    parser.add_argument("--people", type=int, default=1000, help="unseen avatars (default 1000)")
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent / "results" / "precision_demo",
        help="path of the results without ending",
    )
    arguments = parser.parse_args()
    machine = describe()
    results = measure(arguments.people, arguments.dtypes)
    data = {"machine": machine, "people": arguments.people, "seed": SEED, "precisions": results}
    table = markdown(results)
    write_results(arguments.output, data, table)
    print(table)


if __name__ == "__main__":
    main()
