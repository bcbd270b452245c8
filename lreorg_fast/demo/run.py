"""``lreorg demo``: the whole system on avatars that it has never seen, offline."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lreorg_fast
from lreorg_fast.demo.figures import (
    Measurement,
    Named,
    People,
    draw_people,
    reconstruct,
)
from lreorg_fast.errors import ConfigError
from lreorg_fast.files import atomic_file
from lreorg_fast.media import write_image
from lreorg_fast.media.contact_sheet import contact_sheet
from lreorg_fast.media.pictures import Picture
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import picture_statement

_SHOWN = 12
_DRAWS = 3
PERSONAL: dict[str, dict[str, Any]] = {
    "hide gender too": {
        "hide": ["identity", "gender"],
        "keep": ["age", "expression", "makeup"],
    },
    "keep only expression": {"keep": ["expression"]},
    "keep hair too": {
        "keep": ["gender", "age", "expression", "makeup", "color", "curly", "length"]
    },
}
DOMAIN = "These figures are measured on avatars; they say nothing about photographs."


def run_demo(folder: Path, faces: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Anonymize ``faces`` unseen avatars and leave pictures and a report in ``folder``.

    Args:
        folder: made if it does not exist; files of the demo in it are replaced.
        faces: how many people, at least 12.
        seed: which people are drawn; the privacy draws have no seed.
        say: told what is being done.

    Returns:
        The report: ``figures`` (name, value, n, low, high, note), ``paths``, ``statement``,
        ``settings``, ``filled`` faces with reasons, ``ledger``, ``milliseconds_per_face``.

    Raises:
        ConfigError: too few faces. OutputError: the folder cannot be written.
    """
    if faces < _SHOWN:
        raise ConfigError(f"faces is {faces}, but the contact sheet shows {_SHOWN}; ask for more")
    folder.mkdir(parents=True, exist_ok=True)
    say("loading the demo bundle")
    anonymizer = Anonymizer.load("demo")
    say(f"drawing {faces} people that no network has seen")
    people = draw_people(faces, seed, anonymizer.resolution)
    measurement = Measurement(anonymizer, people)
    say("anonymizing with the default setting")
    start = time.perf_counter()
    result = measurement.default
    milliseconds = (time.perf_counter() - start) / faces * 1000
    say("measuring")
    figures = list(measurement.quick())
    say("anonymizing with personal settings, and reversing")
    rows = _rows(anonymizer, people, measurement)
    paths = _write_pictures(folder, people, result.images, rows)
    report = {
        "version": lreorg_fast.__version__,
        "bundle": anonymizer.bundle.manifest.name,
        "engine": anonymizer.engine.build_info(),
        "seed": seed,
        "milliseconds_per_face": round(milliseconds, 2),
        "figures": [_figure(named) for named in figures],
        "statement": f"{picture_statement(_reidentification(figures))} {DOMAIN}",
        "guarantee": dict(result.faces[0].guarantee),
        "settings": {"default": {}, **PERSONAL},
        "filled": [face.to_dict() for face in result.filled],
        "ledger": anonymizer.ledger.report(_reidentification(figures)),
        "paths": [str(path) for path in (*paths, folder / "report.json")],
    }
    with atomic_file(folder / "report.json", overwrite=True) as stream:
        stream.write(json.dumps(report, indent=1).encode())
    return report


def _figure(named: Named) -> dict[str, Any]:
    name, figure = named
    numbers = {key: round(getattr(figure, key), 4) for key in ("value", "low", "high")}
    return {"name": name, **numbers, "n": figure.n, "note": figure.note}


def _reidentification(figures: Sequence[Named]) -> str:
    found = dict(figures).get("default: PSR (random)")
    if found is None:
        return "no face was released"
    return (
        f"{100 * (1 - found.value):.1f}% accepted at a false accept rate of 0.001 "
        f"(n = {found.n}, 95% interval {100 * (1 - found.high):.1f} to "
        f"{100 * (1 - found.low):.1f}%)"
    )


def _rows(
    anonymizer: Anonymizer, people: People, measurement: Measurement
) -> dict[str, Sequence[Picture]]:
    """The contact sheet: the same people under every setting."""
    shown = people.probes[:_SHOWN]
    rows: dict[str, Sequence[Picture]] = {
        "original": shown,
        "same person again": people.others[:_SHOWN],
        "encoded and rendered": reconstruct(anonymizer, shown),
        "default, draw 1": measurement.default.images[:_SHOWN],
    }
    for draw in range(2, _DRAWS + 1):
        rows[f"default, draw {draw}"] = anonymizer(shown).images
    for name, settings in PERSONAL.items():
        rows[name] = anonymizer(shown, **settings).images
    rows["draw 1 reversed"] = measurement.restored(_SHOWN)
    return rows


def _write_pictures(
    folder: Path,
    people: People,
    anonymized: Sequence[Picture],
    rows: dict[str, Sequence[Picture]],
) -> list[Path]:
    """The sheet, and originals that ``lreorg anonymize`` can be tried on."""
    sheet = folder / "contact_sheet.png"
    write_image(sheet, contact_sheet(rows), overwrite=True)
    for name, pictures in (("originals", people.probes), ("anonymized", anonymized)):
        (folder / name).mkdir(exist_ok=True)
        for i, picture in enumerate(pictures[:_SHOWN]):
            write_image(folder / name / f"face_{i:02d}.png", picture, overwrite=True)
    return [sheet, folder / "originals", folder / "anonymized"]
