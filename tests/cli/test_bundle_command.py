"""`lreorg bundle build`: options, refusals and the manifest.

Networks are the demo's, in files of our own; CLIP is its stand-in, since open_clip is optional.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from avatar_clip import AvatarClip
from click.testing import Result

import lreorg_fast as lf
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.networks import write_network
from lreorg_fast.weights.parts import load_part

Run = Callable[..., Result]
SMALL = ("--groups", 16, "--members", 2, "--latents", 300, "--labelled", 200)
QUICK = ("--people", 15, "--reconstructions", 8, "--far", 0.1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    demo = open_bundle("demo")
    roles = {
        "generator": "generator",
        "encoder": "encoder",
        "cdfnet": "cdfnet",
        "identity": "identity:training",
        "identity-evaluation": "identity:evaluation",
    }
    paths = {}
    for option, role in roles.items():
        paths[option] = folder / f"{option}.bin"  # the name says nothing
        write_network(paths[option], load_part(demo, role))
    (folder / "clip.bin").write_bytes(b"stand-in")
    paths["clip"] = folder / "clip.bin"
    return paths


@pytest.fixture(autouse=True)
def stand_in_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lreorg_fast.weights.clip.load_clip", lambda name, path: AvatarClip())


def options(files: dict[str, Path], **changes: Any) -> list[Any]:
    given: dict[str, Any] = {**files, "clip": f"toy:{files['clip']}", **changes}
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def test_a_bundle_is_built_and_anonymizes(run: Run, files: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "mine"
    result = run("bundle", "build", "-o", target, *options(files), *SMALL, *QUICK)
    assert (result.exit_code, result.stdout) == (0, f"{target}\n")
    for step in ("loading encoder", "hashing cdfnet", "labelled pictures", "writing"):
        assert step in result.stderr
    manifest = open_bundle(target).manifest
    assert (manifest.name, manifest.domain.kind, manifest.domain.resolution) == ("mine", "ffhq", 64)
    assert "generator: not known" in manifest.license
    sources = manifest.recipe["sources"]
    assert set(sources) == {"generator", "encoder", "cdfnet", "clip", "identity", "evaluation"}
    for role in ("generator", "cdfnet"):
        content = files[role].read_bytes()
        assert sources[role]["sha256"] == hashlib.sha256(content).hexdigest()
        assert sources[role]["bytes"] == len(content)
    assert sources["clip"]["model"] == "toy"
    assert set(manifest.parts) == {
        "generator", "encoder", "cdfnet", "identity:training", "identity:evaluation", "tables",
    }  # fmt: skip
    lf.Anonymizer.load(target)


def test_settings_reach_the_manifest(run: Run, files: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "b"
    words = tmp_path / "words.json"
    words.write_text('[{"name": "identity"}, {"name": "age"}]')
    changes = {"keywords": words, "domain": "avatars", "name": "n", "license": "MIT", "seed": 5}
    given = options(files, **changes)
    result = run("bundle", "build", "-o", target, *given, *SMALL, *QUICK, "--json", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert (shown["name"], shown["license"], shown["domain"]["kind"]) == ("n", "MIT", "avatars")
    assert [keyword["name"] for keyword in shown["keywords"]] == ["identity", "age"]
    assert shown["recipe"]["settings"]["tables"]["seed"] == 5
    assert shown["recipe"]["settings"]["calibration"]["seed"] == 900_005


def nan_net(files: dict[str, Path], folder: Path) -> dict[str, Any]:
    net = load_part(open_bundle("demo"), "cdfnet")
    next(net.parameters()).data[0] = float("nan")
    write_network(folder / "nan.bin", net)
    return {"cdfnet": folder / "nan.bin"}


def other_net(files: dict[str, Path], folder: Path) -> dict[str, Any]:
    write_network(folder / "small.bin", lf.CDFNet(lf.CDFNetConfig(64, 64, 1, 4)))
    return {"cdfnet": folder / "small.bin"}


def text_file(files: dict[str, Path], folder: Path) -> dict[str, Any]:
    (folder / "page.pt").write_text("<html>404</html>")
    return {"generator": folder / "page.pt"}


REFUSED = {
    "NaN": (nan_net, "nan"),
    "dimensions": (other_net, "dim is 64"),
    "a page": (text_file, "page.pt"),
    "a generator for an encoder": (lambda f, _: {"encoder": f["generator"]}, "generator.bin"),
    "an encoder for a CDFNet": (lambda f, _: {"cdfnet": f["encoder"]}, "encoder.bin"),
    "no such file": (lambda f, d: {"identity": d / "gone.pth"}, "does not exist"),
    "no name": (lambda f, _: {"clip": f["clip"]}, "NAME:FILE"),
    "few latents": (lambda f, _: {"latents": 31, "labelled": 1}, "too few"),
    "few people": (lambda f, _: {"people": 3, "reconstructions": 3}, "people = 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_sentence_and_leaves_nothing(
    name: str, run: Run, files: dict[str, Path], tmp_path: Path
) -> None:
    change, said = REFUSED[name]
    folder = tmp_path / "files"
    folder.mkdir()
    changes = change(files, folder)
    sizes = dict(zip(SMALL[::2] + QUICK[::2], SMALL[1::2] + QUICK[1::2], strict=True))
    given = options(files, **{str(n).removeprefix("--"): v for n, v in sizes.items()} | changes)
    result = run("bundle", "build", "-o", tmp_path / "b", *given, "-q")
    assert result.exit_code == 2
    assert said.lower() in result.stderr.lower()
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_an_existing_folder_is_refused_before_a_file_is_read(run: Run, tmp_path: Path) -> None:
    nothing = dict.fromkeys(("generator", "encoder", "cdfnet", "identity"), tmp_path / "gone")
    given = options({**nothing, "clip": tmp_path / "gone"})
    result = run("bundle", "build", "-o", tmp_path, *given)
    assert result.exit_code == 2
    assert "exists already" in result.stderr


def test_public_layouts_are_taken(run: Run, files: dict[str, Path], tmp_path: Path) -> None:
    """Generator as a converted official file, CDFNet as a bare state dict beside its config."""
    demo = open_bundle("demo")
    generator, net = load_part(demo, "generator"), load_part(demo, "cdfnet")
    torch.save(
        {"g_ema": generator.state_dict(), "latent_avg": generator.latent_avg},
        tmp_path / "generator.pt",
    )
    config = net.config.to_dict()  # type: ignore[operator, union-attr]
    torch.save({"net": net.state_dict(), "config": config}, tmp_path / "state.pt")
    changes = {"generator": tmp_path / "generator.pt", "cdfnet": tmp_path / "state.pt"}
    target = tmp_path / "b"
    result = run("bundle", "build", "-o", target, *options(files, **changes), *SMALL, *QUICK, "-q")
    assert result.exit_code == 0, result.stderr
    built = open_bundle(target)
    for role, module in (("generator", generator), ("cdfnet", net)):
        found = built.tensors(role)
        for name, tensor in module.state_dict().items():
            assert torch.equal(found[name], tensor), name
    assert built.part("cdfnet").config["clamp"] == 1.0
