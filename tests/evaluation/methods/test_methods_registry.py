"""The registry: complete, honest, and with commands that can be run."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import RESOLUTION, toy_bundle
from click.testing import CliRunner
from detectors import KnownFaces
from method_doubles import NETWORKS

from lreorg_fast.cli.app import lreorg
from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.methods import (
    METHODS,
    make_method,
    method_info,
    write_outputs,
)
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.media.pictures import Picture
from lreorg_fast.pipeline import Anonymizer


def test_the_registry_has_what_the_papers_tables_need() -> None:
    joint = {f"lreorg+{attribute}" for attribute in DEFAULT_KEEP}
    alone = {f"hide-{attribute}" for attribute in DEFAULT_KEEP}
    assert set(METHODS) == {
        "original",
        *("blur", "blur-strong", "pixelate", "fill", "avatar"),
        *("laplace", "k-anonymity", "paper-window", "lreorg", "lreorg-not-recovered"),
        *(
            name + rule + back
            for name in joint
            for rule in ("", "-farthest")
            for back in ("", "-not-recovered")
        ),
        *(name + rule for name in alone for rule in ("", "-farthest")),
    }
    assert len({info.title for info in METHODS.values()}) == len(METHODS)
    for name, info in METHODS.items():
        assert info.name == name
        assert info.title
        assert info.guarantee
        assert info.description.endswith(".")
        family = "joint" if "+" in name else "alone" if name.startswith("hide-") else "methods"
        assert info.family == family


def test_entries_say_what_is_hidden_and_recovered() -> None:
    assert METHODS["lreorg"].hidden == ("identity",)
    assert METHODS["lreorg"].recovered == DEFAULT_KEEP
    assert METHODS["lreorg-not-recovered"].recovered == ()
    assert METHODS["lreorg+age"].hidden == ("identity", "age")
    assert METHODS["lreorg+age"].recovered == ("gender", "expression", "makeup")
    assert METHODS["lreorg+age-farthest-not-recovered"].recovered == ()
    assert METHODS["hide-makeup-farthest"].hidden == ("makeup",)
    assert METHODS["blur"].hidden == METHODS["blur"].recovered == ()


def test_nothing_is_promised_that_the_draws_do_not_keep(toy: Anonymizer) -> None:
    """What the registry says agrees with what the anonymizer says of its draws."""
    picture = np.zeros((RESOLUTION, RESOLUTION, 3), np.uint8)
    for name in NETWORKS:
        info = METHODS[name]
        face = toy(picture, **info.settings).faces[0]
        promises = face.guarantee.values()
        assert all(p.removeprefix("no guarantee: ") in info.guarantee for p in promises), name
        unprotected = face.privacy == "none" or "identity" not in info.hidden
        assert ("none" in info.guarantee) == unprotected, name
    for name in ("blur", "blur-strong", "pixelate"):
        assert METHODS[name].guarantee == "none: invertible, no protection"


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match="'blurr', but must be one of original, blur"):
        method_info("blurr")


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("lreorg", {}, "needs a bundle"),
        ("avatar", {}, "needs a bundle"),
        ("blur", {"faces": "scene"}, "needs a detector"),
        ("lreorg", {"faces": "cubist"}, "must be 'aligned' or 'scene'"),
    ],
)
def test_what_is_missing_is_said(name: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_method(name, **given)


def test_what_a_bundle_or_these_pictures_cannot_have_is_said(
    toy: Anonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="'avatar' is for whole pictures"):
        make_method("avatar", toy)
    monkeypatch.delitem(toy.keywords, "makeup")
    with pytest.raises(ConfigError, match="makeup"):
        make_method("hide-makeup", toy)


def test_torch_is_not_imported_by_the_registry() -> None:
    code = "import sys, lreorg_fast.evaluation.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        *("laplace", "k-anonymity", "lreorg", "lreorg-not-recovered"),
        *("lreorg+gender-farthest", "lreorg+age-not-recovered", "hide-makeup"),
    ],
)
def test_the_command_is_one_that_anonymize_takes_and_makes_the_same_settings(
    tmp_path: Path, portraits: list[Picture], name: str
) -> None:
    bundle = str(toy_bundle(tmp_path / "toy"))
    (tmp_path / "in").mkdir()
    write_outputs(tmp_path / "in" / "x", ["a.png"], [("a.png", (32, 32), portraits[0])], {})
    method = make_method(
        name, Anonymizer.load(bundle), bundle=bundle, originals=str(tmp_path / "in")
    )
    words = shlex.split(method.command)
    assert words[0] == "lreorg"
    words[words.index("OUTPUTS")] = str(tmp_path / "out")
    report = tmp_path / "r.json"
    done = CliRunner().invoke(lreorg, [*words[1:], "--report", str(report), "-q"])
    assert done.exit_code == 0, done.output
    settings = json.loads(report.read_text())["settings"]
    assert tuple(settings["hide"]) == METHODS[name].hidden
    assert tuple(settings["keep"]) == METHODS[name].recovered
    for setting in ("epsilon", "mechanism", "attribute_rule"):
        if setting in METHODS[name].settings:
            assert settings[setting] == METHODS[name].settings[setting]


def test_commands_name_the_verb_that_can() -> None:
    def command(name: str, **given: Any) -> str:
        return make_method(name, None, KnownFaces([]), **given).command

    assert command("original") == "lreorg evaluate ORIGINALS --method original"
    assert command("fill", faces="scene") == "lreorg anonymize ORIGINALS -o OUTPUTS --method fill"
    kept = "lreorg evaluate ORIGINALS --method {} --faces {} --keep-outputs OUTPUTS"
    assert command("fill") == kept.format("fill", "aligned")
    assert command("blur", faces="scene") == kept.format("blur", "scene")
    assert command("blur", originals="my faces").split("'")[1] == "my faces"
    assert command("pixelate", originals="--demo") == (
        "lreorg evaluate --demo --method pixelate --keep-outputs OUTPUTS"
    )
