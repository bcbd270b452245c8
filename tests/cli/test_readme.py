"""The README: its programs run and its links lead somewhere. Its commands are run by .ci/run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lreorg_fast.cli.app import lreorg
from lreorg_fast.media import write_image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run(
    program: str, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the toy bundle: what matters here is that names and shapes are as written."""
    monkeypatch.setattr("lreorg_fast.weights.bundle._packaged_demo", lambda: bundle)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "lreorg-demo" / "originals"
    folder.mkdir(parents=True)
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_image(folder / f"face_{index:02d}.png", pixels)
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+\.md|LICENSE)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).is_file()


@pytest.mark.parametrize("marker", ["ci:demo", "ci:test"])
def test_the_blocks_that_ci_runs_are_there(marker: str) -> None:
    assert f"<!-- {marker} -->\n```bash\n" in README


def test_the_commands_exist() -> None:
    for verb in re.findall(r"^lreorg ([a-z]+)", README, re.MULTILINE):
        assert verb in lreorg.commands


def test_programs_were_found() -> None:
    assert len(PROGRAMS) == 3
