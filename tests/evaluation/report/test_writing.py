"""Three files, whole or none."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic_evaluation as synthetic

import lreorg_fast.evaluation.report.writing as writing
from lreorg_fast.errors import ConfigError, ImageError, OutputError
from lreorg_fast.evaluation import Figure
from lreorg_fast.evaluation.measured import Evaluation, Measured
from lreorg_fast.evaluation.report import write_report


def test_the_json_is_the_evaluation_and_names_the_samples(tmp_path: Path) -> None:
    evaluation = synthetic.evaluation()
    samples = synthetic.samples(3)
    paths = write_report(evaluation, tmp_path / "a" / "b", samples, sample_names=["x", "y", "z"])
    assert [path.name for path in paths] == ["report.json", "report.md", "report.html"]
    entries = json.loads(paths[0].read_text(encoding="utf-8"))
    assert Evaluation.from_dict(entries) == evaluation
    assert entries["samples"] == {"rows": list(samples), "columns": ["x", "y", "z"]}


def test_the_same_evaluation_gives_the_same_files(tmp_path: Path) -> None:
    contents = []
    for folder in ("a", "b"):
        paths = write_report(synthetic.evaluation(), tmp_path / folder, synthetic.samples(2))
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", ["report.json", "report.md", "report.html"])
def test_nothing_is_replaced_or_half_written_unasked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="exists already"):
        write_report(synthetic.evaluation(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"
    write_report(synthetic.evaluation(), tmp_path, overwrite=True)
    assert (tmp_path / name).read_text(encoding="utf-8") != "mine"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_figure_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    evaluation = synthetic.evaluation()
    wrong = Measured("fid", Figure(value, 10, 0.0, 1.0))
    method = replace(evaluation.methods[0], measured=(wrong,))
    with pytest.raises(ConfigError, match=r"'fid' of 'original'.*finite"):
        write_report(replace(evaluation, methods=(method,)), tmp_path)
    with pytest.raises(ConfigError, match="'fid' of the originals"):
        write_report(replace(evaluation, judged=(wrong,)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    evaluation = replace(synthetic.evaluation(), run={"machine": object()})
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        write_report(evaluation, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sample", [np.zeros((4, 4), "u1"), np.zeros((4, 4, 3), "f4"), np.zeros((0, 4, 3), "u1"), "x"]
)
def test_a_sample_that_is_no_picture_is_refused(tmp_path: Path, sample: object) -> None:
    with pytest.raises(ImageError, match="a sample of 'blur'"):
        write_report(synthetic.evaluation(), tmp_path, {"blur": [sample]})  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_a_failure_between_the_files_leaves_none_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(document: object) -> str:
        raise RuntimeError("a fault")

    monkeypatch.setattr(writing, "html_page", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        write_report(synthetic.evaluation(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("domain", "shown", "private"),
    [("photographs", True, True), ("photographs", False, False), ("avatars", True, False)],
)
def test_a_page_with_photographs_is_for_its_owner(
    tmp_path: Path, domain: str, shown: bool, private: bool
) -> None:
    samples = synthetic.samples(2) if shown else {}
    *_, page = write_report(synthetic.evaluation(domain=domain), tmp_path, samples)
    mode = stat.S_IMODE(page.stat().st_mode)
    assert (mode & 0o077 == 0) == private
    assert ("holds pictures of people" in page.read_text(encoding="utf-8")) == private


def test_torch_is_not_needed() -> None:
    code = "import sys, lreorg_fast.evaluation.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
