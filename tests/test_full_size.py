"""The whole pipeline at the sizes of the public FFHQ-256 networks, on parameters made from names.

The networks go the way of a user's: files in the layouts of their authors, ``lreorg bundle build``,
an Anonymizer.

Random networks make no faces, so calibrated verification must fill every one; with its limits
loosened the pictures of the backends for a CPU are compared. One test, because the networks hold
350 million parameters. Backends for a GPU have their tests in tests/gpu.
"""

from __future__ import annotations

import json
from pathlib import Path

import golden
import numpy as np
import published
import pytest
import torch
from click.testing import CliRunner
from open_clip_import import import_open_clip

import lreorg_fast as lf
from lreorg_fast.cli.app import lreorg
from lreorg_fast.models import (
    BackboneConfig,
    E4EConfig,
    E4EEncoder,
    FaceBackbone,
    StyleGAN2Config,
    StyleGAN2Generator,
)
from lreorg_fast.privacy import InsecureTestSampler
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.parts import load_part
from tolerances import tolerance

# Without contents: random pictures do not show them all.
KEYWORDS = ("identity", "gender", "age", "expression", "makeup")
SMALL = ("--latents", 64, "--groups", 16, "--members", 2, "--labelled", 1)
QUICK = ("--people", 7, "--reconstructions", 4, "--far", 0.5)
# A CLIP model of few parameters whose features are as long as those of ViT-B/32.
CLIP = {
    "embed_dim": 512,
    "vision_cfg": {
        "image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}  # fmt: skip


def save_e4e(path: Path) -> None:
    """Encoder and generator in one file, as e4e's authors publish them."""
    encoder = golden.fill(E4EEncoder(E4EConfig(num_ws=14)), "e4e")
    decoder = golden.fill(StyleGAN2Generator(StyleGAN2Config()), "stylegan")
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    state |= {f"decoder.{name}": value for name, value in decoder.state_dict().items()}
    average = torch.from_numpy(published.value("latent_avg", (512,), set()))
    options = {"stylegan_size": 256, "start_from_latent_avg": True}
    torch.save({"state_dict": state, "latent_avg": average.repeat(14, 1), "opts": options}, path)


def save_cdfnet(path: Path) -> None:
    """At the golden's gain of 0.1: larger ones double the latents with every block."""
    net = lf.CDFNet(lf.CDFNetConfig())
    for name, tensor in net.state_dict().items():
        gain = 0.1 / np.sqrt(tensor.shape[-1]) if tensor.dim() == 2 else 0.02
        tensor.copy_(torch.from_numpy(published.normal(name, tensor.shape) * np.float32(gain)))
    torch.save(net.state_dict(), path)


def options(folder: Path) -> list[object]:
    """Options of ``lreorg bundle build`` for files in the layouts of their authors."""
    open_clip = import_open_clip()
    save_e4e(folder / "e4e.pt")
    save_cdfnet(folder / "cdfnet.pt")
    recognizer = golden.fill(FaceBackbone(BackboneConfig()))
    torch.save(recognizer.state_dict(), folder / "model_ir_se50.pth")
    torch.save({"state_dict": open_clip.CLIP(**CLIP).state_dict()}, folder / "clip.pt")
    (folder / "clip.json").write_text(json.dumps(CLIP))
    (folder / "keywords.json").write_text(json.dumps([{"name": name} for name in KEYWORDS]))
    given = {
        "generator": folder / "e4e.pt",
        "encoder": folder / "e4e.pt",
        "cdfnet": folder / "cdfnet.pt",
        "identity": folder / "model_ir_se50.pth",
        "clip": f"{folder / 'clip.json'}:{folder / 'clip.pt'}",
        "keywords": folder / "keywords.json",
        "name": "full size",
    }
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def loosened(folder: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    limits = {"similarity": 2.0, "represented": -2.0, "reconstruction": 1e30}
    manifest["calibration"] = {f"verify.{name}": limit for name, limit in limits.items()}
    (folder / "bundle.json").write_text(json.dumps(manifest))


def test_a_full_size_bundle_runs_alike_through_every_cpu_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LREORG_INSECURE_TEST", "1")
    folder = tmp_path / "full"
    arguments = ["bundle", "build", "-o", folder, *options(tmp_path), *SMALL, *QUICK]
    result = CliRunner().invoke(lreorg, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    for file in tmp_path.glob("*.p*"):
        file.unlink()  # a gigabyte that is not needed again
    shapes = {name: part.config for name, part in open_bundle(folder).manifest.parts.items()}
    assert (shapes["generator"]["resolution"], shapes["encoder"]["num_ws"]) == (256, 14)
    assert (shapes["cdfnet"]["dim"], shapes["identity:training"]["input_size"]) == (512, 112)

    anonymizer = lf.Anonymizer.load(
        folder, backend="reference", dtype="float32", precision="float32"
    )
    picture = published.photo("full size", 300, 300)
    assert [face.status for face in anonymizer(picture).faces] == ["filled"]

    del anonymizer  # two at once are 2 GB more
    loosened(folder)
    anonymizer = lf.Anonymizer.load(
        folder, backend="reference", dtype="float32", precision="float32"
    )
    net = load_part(open_bundle(folder), "cdfnet")
    tables = open_bundle(folder).tensors("tables")
    features = {name: tables[f"keyword.{name}"] for name in KEYWORDS}
    wanted = anonymizer(picture, sampler=InsecureTestSampler(1))
    assert [face.status for face in wanted.faces] == ["replaced"]
    assert wanted.image.shape == picture.shape
    latents = 0.5 * torch.from_numpy(published.normal("latents", (2, 14, 512)))
    replace = {"identity": tables["codebook.members"][0, 0].expand(2, 1, 512)}
    kept = ["gender", "age", "expression", "makeup"]
    truth = anonymizer.engine.reorganize(latents, replace, kept)
    assert lf.available_backends()["cpu"] is True
    for dtype in ("float32", "bfloat16"):
        anonymizer.engine = lf.compile(net, features, backend="cpu", dtype=dtype)
        found = anonymizer.engine.reorganize(latents, replace, kept)
        limit = tolerance("full size reorganization", dtype)
        assert float((found - truth).abs().max() / truth.abs().max()) < limit
        made = anonymizer(picture, sampler=InsecureTestSampler(1))
        assert [face.status for face in made.faces] == ["replaced"]
        levels = np.abs(made.image.astype(int) - wanted.image.astype(int)).mean()
        assert levels < tolerance("full size picture levels", dtype)
