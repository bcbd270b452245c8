"""The three files of a report."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.measured import Evaluation
from lreorg_fast.evaluation.report.html import html_page
from lreorg_fast.evaluation.report.markdown import markdown_text
from lreorg_fast.evaluation.report.projection import FeatureSet
from lreorg_fast.evaluation.report.sections import compose
from lreorg_fast.evaluation.report.sheets import Samples
from lreorg_fast.files import atomic_file, check_targets

JSON, MARKDOWN, HTML = "report.json", "report.md", "report.html"


def write_report(
    evaluation: Evaluation,
    folder: Path,
    samples: Samples | None = None,
    features: Sequence[FeatureSet] = (),
    overwrite: bool = False,
    sample_names: Sequence[str] = (),
) -> list[Path]:
    """Write ``report.json``, ``report.md`` and ``report.html`` into ``folder``.

    Everything is made before the first file is written. Where photographs are shown, the page can
    be read by its owner only.

    Args:
        evaluation: what was measured.
        folder: made if it is not there; other files in it stay.
        samples: rows of the contact sheet: the method's name (or any label) to (H, W, 3) uint8 RGB
            pictures, None where nothing was released; the same person in each column. The first
            12 columns and 48 rows are shown.
        features: what the plots of clusters show.
        overwrite: replace the three files.
        sample_names: names of the columns, for ``report.json``.

    Returns:
        The paths, in that order.

    Raises:
        ConfigError: a figure is NaN or infinite.
        ImageError: a sample is no picture.
        OutputError: the folder or a file cannot be written, or a file exists already.
    """
    shown: Samples = samples or {}
    _check_finite(evaluation)
    paths = check_report(folder, overwrite)
    document = compose(evaluation, shown, features)
    contents = (
        json_text(evaluation, shown, sample_names),
        markdown_text(document),
        html_page(document),
    )
    faces = bool(shown) and evaluation.data.get("domain") != "avatars"
    for path, text in zip(paths, contents, strict=True):
        with atomic_file(path, overwrite, private=faces and path.name == HTML) as stream:
            stream.write(text.encode("utf-8"))
    return paths


def check_report(folder: Path, overwrite: bool) -> list[Path]:
    """Where the three files go; before anything is measured it says whether they can.

    Raises:
        OutputError: the folder cannot be made, or a file exists already.
    """
    return check_targets(folder, (JSON, MARKDOWN, HTML), overwrite)


def json_text(evaluation: Evaluation, samples: Samples, sample_names: Sequence[str] = ()) -> str:
    """:meth:`Evaluation.to_dict` and which pictures the page shows.

    Raises:
        ConfigError: something in the free fields is not JSON.
    """
    entries: dict[str, Any] = evaluation.to_dict()
    entries["samples"] = {"rows": list(samples), "columns": list(sample_names)}
    try:
        return json.dumps(entries, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the evaluation cannot be written as JSON: {error}; put plain numbers and texts into "
            "data, judges and run"
        ) from error


def _check_finite(evaluation: Evaluation) -> None:
    named = [("the originals", evaluation.judged)]
    named += [(f"'{method.name}'", method.measured) for method in evaluation.methods]
    for name, entries in named:
        for entry in entries:
            figure = entry.figure
            if figure and not all(map(math.isfinite, (figure.value, figure.low, figure.high))):
                raise ConfigError(
                    f"'{entry.metric}' of {name} is {figure}; a figure must be finite, give a "
                    "reason instead of it"
                )
