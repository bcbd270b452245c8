"""Bundles from networks: what does not fit, what is measured, and that the result anonymizes."""

from __future__ import annotations

import dataclasses
import errno
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avatar_clip import AvatarClip
from torch import Tensor

import lreorg_fast as lf
from lreorg_fast.assembly import Label, Networks, build_bundle, network_part
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import sample_people
from lreorg_fast.calibration import Calibration, CalibrationSizes, calibrate
from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.errors import ConfigError, OutputError
from lreorg_fast.keywords import KEYWORDS, Keyword
from lreorg_fast.models import BackboneConfig, E4EConfig, E4EEncoder, FaceBackbone
from lreorg_fast.training.tables import TableSizes
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.parts import load_part

TABLES = TableSizes(latents=600, groups=32, members=4, labelled=200)
CALIBRATION = CalibrationSizes(people=60, reconstructions=40, far=1e-2)
LABEL = Label("rebuilt", "Apache-2.0", "avatars", {"note": "from the demo's own parts"})


@pytest.fixture(scope="module")
def networks() -> Networks:
    """The demo's, without its face detector."""
    demo = open_bundle("demo")
    roles = ("generator", "encoder", "cdfnet", "identity:training", "identity:evaluation")
    generator, encoder, net, identity, evaluation = (load_part(demo, role) for role in roles)
    return Networks(generator, encoder, net, AvatarClip(), identity, evaluation)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rebuilt(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "rebuilt"
    build_bundle(folder, networks, LABEL, tables=TABLES, calibration=CALIBRATION)
    return folder


def avatars(count: int) -> list[np.ndarray]:
    """People whom no network has seen."""
    people = sample_people(count, 1, torch.Generator().manual_seed(77))
    pixels = (render(people, 64) * 255).round().to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).numpy())


def test_the_rebuilt_demo_replaces_faces(rebuilt: Path) -> None:
    bundle = open_bundle(rebuilt)
    bundle.verify()
    assert "attributes" not in bundle.manifest.parts
    originals = avatars(40)
    result = lf.Anonymizer.load(rebuilt)(originals)
    counts = Counter(face.status for face in result.faces)
    assert counts["replaced"] >= 20  # 74% in a larger run; with the demo's own detector 99%
    for face, image, original in zip(result.faces, result.images, originals, strict=True):
        if face.status == "replaced":
            assert face.similarity is not None
            assert face.similarity < bundle.calibrated("verify.similarity")
            assert not np.array_equal(image, original)


def test_what_shows_no_face_is_filled_without_a_detector(rebuilt: Path) -> None:
    random = np.random.default_rng(3)
    noise = random.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    anonymizer = lf.Anonymizer.load(rebuilt)
    assert len(anonymizer(noise).filled) == 20
    faces = np.stack(avatars(20))
    plain = np.repeat(random.integers(0, 256, (20, 1, 1, 3), dtype=np.uint8), 64, 1).repeat(64, 2)
    # Weaker than a detector. Measured: 10% of plain colours and 22% of faces upside down pass, and
    # 80 to 98% of faces; the limits move with the rounding of a torch version. The bounds leave
    # room for 20 draws of such rates, and would not hold without a check of the original.
    let_through = {
        name: 20 - len(anonymizer(pictures).filled)
        for name, pictures in {"faces": faces, "plain": plain, "down": faces[:, ::-1]}.items()
    }
    assert let_through["faces"] >= 11
    assert let_through["plain"] <= 6
    assert let_through["down"] <= 10


def test_the_manifest_says_how_and_on_how_many(rebuilt: Path) -> None:
    manifest = open_bundle(rebuilt).manifest
    assert manifest.recipe["note"] == LABEL.recipe["note"]
    assert manifest.recipe["settings"]["tables"] == dataclasses.asdict(TABLES)
    assert manifest.recipe["settings"]["calibration"]["far"] == 1e-2
    assert manifest.recipe["versions"]["torch"] == torch.__version__
    assert set(manifest.calibration) == {
        "verify.similarity",
        "verify.represented",
        "verify.reconstruction",
        "evaluation.threshold.random",
    }
    figures = manifest.figures
    assert figures["calibration: verify.similarity"]["n"] == 60 * 59 // 2
    assert figures["calibration: verify.represented"]["n"] == 40 * 59
    assert figures["calibration: verify.reconstruction"]["n"] == 40
    for name in ("verify.similarity", "verify.represented"):
        assert figures[f"calibration: {name}"]["value"] <= 1e-2
    assert 0 <= figures["calibration: represented"]["low"] < 1
    tables = open_bundle(rebuilt).tensors("tables")
    assert tables["codebook.means"].shape == (32, 128)
    assert tables["codebook.members"].shape == (32, 4, 128)
    for name, keyword in KEYWORDS.items():
        assert tables[f"keyword.{name}"].shape == (64,)
        if keyword.contents:
            assert tables[f"attribute.{name}.means"].shape == (len(keyword.contents), 128)


def test_the_same_seeds_give_the_same_limits(networks: Networks, rebuilt: Path) -> None:
    def measured(seed: int) -> Calibration:
        sizes = dataclasses.replace(CALIBRATION, seed=seed)
        return calibrate(sizes, networks.encoder, networks.generator, networks.identity)

    limits = open_bundle(rebuilt).manifest.calibration
    again, other = measured(CALIBRATION.seed).limits, measured(1).limits
    for name, value in again.items():
        # The bundle's come from the prepared generator, which rounds otherwise.
        assert value == pytest.approx(limits[name], abs=1e-3)
        assert other[name] != value


def test_the_limits_by_hand() -> None:
    """Networks of which everything is known: one picture per latent, coded with a known error."""

    class Generator:
        config = type("Config", (), {"resolution": 4, "z_dim": 3})

        def mapping(self, z: Tensor) -> Tensor:
            return z.sign() * torch.tensor([0.0, 1.0, 1.0]) / 2 + z[:, :1].clamp(-1, 1) * 0

        def synthesis(self, w: Tensor) -> Tensor:
            return w.reshape(len(w), -1)[:, -3:, None, None].expand(-1, 3, 4, 4)

    class Encoder:
        config = type("Config", (), {"input_size": 4})

        def __call__(self, x: Tensor) -> Tensor:
            return x.mean(dim=(2, 3)) + 0.1

    class Recognizer:
        config = type("Config", (), {"input_size": 4})

        def __call__(self, x: Tensor) -> Tensor:
            return torch.nn.functional.normalize(x.mean(dim=(2, 3)), dim=1)

    sizes = CalibrationSizes(people=20, reconstructions=20, far=0.1)
    limits = calibrate(sizes, Encoder(), Generator(), Recognizer()).limits
    # Four different people at right angles: more than a tenth of the pairs are of one kind.
    assert limits["verify.similarity"] == pytest.approx(1.0, abs=1e-6)
    assert limits["verify.reconstruction"] == pytest.approx(1.5 * 0.01, abs=1e-4)


# ---- what does not fit


def replaced(networks: Networks, **changes: Any) -> Networks:
    return dataclasses.replace(networks, **changes)


def small_encoder(**changes: int) -> E4EEncoder:
    small = {"stem": 4, "widths": (4, 4, 8, 8), "units": (1, 1, 1, 1), "style_channels": 8}
    sizes = {"input_size": 64, "num_ws": 10, "style_dim": 128, **small, **changes}
    return E4EEncoder(E4EConfig(**sizes))  # type: ignore[arg-type]


def with_nan(networks: Networks) -> Networks:
    net = CDFNet(networks.cdfnet.config).requires_grad_(False)
    net.load_state_dict(networks.cdfnet.state_dict())
    net.blocks[3].cond.add.out.weight[0, 0] = float("nan")  # type: ignore[union-attr, index]
    return replaced(networks, cdfnet=net)


def with_other_average(networks: Networks) -> Networks:
    encoder = small_encoder()
    encoder.latent_avg += networks.generator.latent_avg + 3.0
    return replaced(networks, encoder=encoder)


def with_narrow_clip(networks: Networks) -> Networks:
    class Narrow(AvatarClip):
        def text(self, sentences: list[str]) -> Tensor:
            return super().text(sentences)[:, :32]

    return replaced(networks, clip=Narrow())


MISFITS: dict[str, tuple[Callable[[Networks], Networks], str]] = {
    "rows": (lambda n: replaced(n, encoder=small_encoder(num_ws=12)), "rows is 12"),
    "width": (lambda n: replaced(n, encoder=small_encoder(style_dim=64)), "width is 64"),
    "dim": (lambda n: replaced(n, cdfnet=CDFNet(CDFNetConfig(64, 64, 1, 4))), "dim is 64"),
    "clip": (with_narrow_clip, "32 numbers"),
    "recognizer": (
        lambda n: replaced(n, identity=FaceBackbone(BackboneConfig(input_size=48))),
        "48 pixels",
    ),
    "evaluation": (
        lambda n: replaced(n, evaluation=FaceBackbone(BackboneConfig(input_size=48))),
        "evaluation network",
    ),
    "nan": (with_nan, "NaN"),
    "average": (with_other_average, "not trained together"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_networks_that_do_not_fit_are_one_sentence(
    name: str, networks: Networks, tmp_path: Path
) -> None:
    change, said = MISFITS[name]
    steps: list[str] = []
    with pytest.raises(ConfigError, match=said):
        build_bundle(
            tmp_path / "b", change(networks), LABEL, progress=lambda what, *_: steps.append(what)
        )
    assert not steps  # before any long work
    assert not list(tmp_path.iterdir())


def test_keywords_without_identity_are_refused(networks: Networks, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="identity"):
        build_bundle(tmp_path / "b", networks, LABEL, keywords={"age": Keyword("age")})


def test_a_content_that_nobody_shows_is_refused(networks: Networks, tmp_path: Path) -> None:
    class OneSided(AvatarClip):
        def image(self, x: Tensor) -> Tensor:
            features = torch.zeros(len(x), 64)
            features[:, 0] = 1.0
            return features

    one_sided = replaced(networks, clip=OneSided())
    with pytest.raises(ConfigError, match="none of 200 generated pictures is 'a photo of a"):
        build_bundle(tmp_path / "b", one_sided, LABEL, tables=TABLES, calibration=CALIBRATION)
    assert not list(tmp_path.iterdir())


def test_only_known_architectures_become_parts() -> None:
    with pytest.raises(ConfigError, match="Linear"):
        network_part("generator", torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("sizes", "changes", "said"),
    [
        (TableSizes, {"latents": 2_047, "labelled": 10}, "2048"),
        (TableSizes, {"latents": 2_999}, "3000"),
        (TableSizes, {"groups": 1}, "2 groups"),
        (TableSizes, {"members": 0}, "1 member"),
        (CalibrationSizes, {"people": 141, "reconstructions": 141}, "people = 141"),
        (CalibrationSizes, {"reconstructions": 6}, "reconstructions = 6"),
        (CalibrationSizes, {"people": 400}, "1 to people"),
        (CalibrationSizes, {"far": 0.0}, "far"),
        (CalibrationSizes, {"far": float("nan")}, "far"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_are_one_sentence(
    sizes: Callable[..., object], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        sizes(**changes)


def test_an_existing_folder_is_left_alone(networks: Networks, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    with pytest.raises(OutputError, match="exists"):
        build_bundle(tmp_path / "mine", networks, LABEL)
    assert (tmp_path / "mine" / "file").read_text() == "precious"
    with pytest.raises(OutputError, match="does not exist"):
        build_bundle(tmp_path / "no" / "b", networks, LABEL)


@pytest.mark.parametrize("when", ["key features", "calibration pictures", "writing"])
def test_an_interruption_leaves_nothing(when: str, networks: Networks, tmp_path: Path) -> None:
    def interrupt(what: str, _done: int, _total: int) -> None:
        if what == when:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_bundle(
            tmp_path / "b",
            networks,
            LABEL,
            keywords={"identity": Keyword("identity")},
            tables=TableSizes(latents=40, groups=4, members=2, labelled=1),
            calibration=CalibrationSizes(people=15, reconstructions=8, far=0.1),
            progress=interrupt,
        )
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(
    networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def full(path: Path, *_: Any) -> None:
        written.append(path)
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lreorg_fast.weights.bundle._write_file", full)
    with pytest.raises(OutputError, match="No space left"):
        build_bundle(
            tmp_path / "b",
            networks,
            LABEL,
            keywords={"identity": Keyword("identity")},
            tables=TableSizes(latents=40, groups=4, members=2, labelled=1),
            calibration=CalibrationSizes(people=15, reconstructions=8, far=0.1),
        )
    assert written
    assert not list(tmp_path.iterdir())
