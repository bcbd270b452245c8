"""A face network behind a window: it sees the window, and refuses one that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lreorg_fast.assembly import network_part
from lreorg_fast.errors import BundleError, ConfigError
from lreorg_fast.models import BackboneConfig, WindowBackbone, WindowConfig
from lreorg_fast.weights import BundleManifest, Domain, open_bundle, write_bundle
from lreorg_fast.weights.parts import load_part

_INNER = BackboneConfig(16, 4, (4, 4, 8, 8), (1, 2, 1, 1), outputs=6)
_CONFIG = WindowConfig(32, 9, 4, _INNER)


def test_only_the_window_is_seen() -> None:
    net = WindowBackbone(_CONFIG).eval()
    pictures = torch.rand(3, 3, 32, 32) * 2 - 1
    around, within = (torch.rand(3, 3, 32, 32) * 2 - 1 for _ in range(2))
    around[:, :, 4:20, 9:25] = pictures[:, :, 4:20, 9:25]
    within[:, :, :4] = pictures[:, :, :4]
    seen = net(pictures)
    assert torch.equal(net(around), seen)
    assert not torch.allclose(net(within), seen)
    assert torch.allclose(seen.norm(dim=1), torch.ones(3))
    assert torch.equal(torch.nn.functional.normalize(net.raw(pictures)), seen)


@pytest.mark.parametrize(("left", "top"), [(-1, 0), (0, 17), (17, 0), (0, -1)])
def test_a_window_outside_of_the_picture_is_refused(left: int, top: int) -> None:
    with pytest.raises(ConfigError, match="left and top must be from 0 to 16"):
        WindowConfig(32, left, top, _INNER)


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(N, 3, 32, 32\)"):
        WindowBackbone(_CONFIG)(torch.zeros(1, 3, 16, 16))


def _bundle(folder: Path, role: str) -> Path:
    torch.manual_seed(3)
    part, tensors = network_part(role, WindowBackbone(_CONFIG))
    manifest = BundleManifest("one", "Apache-2.0", Domain("noise", 32), parts={role: part})
    return write_bundle(folder, manifest, {part.file: tensors}).root


def test_it_comes_back_from_a_bundle(tmp_path: Path) -> None:
    role = "identity:evaluation-2"
    bundle = open_bundle(_bundle(tmp_path / "one", role))
    assert bundle.part(role).file == "identity_evaluation-2.safetensors"
    net = load_part(bundle, role)
    assert isinstance(net, WindowBackbone)
    assert net.config == _CONFIG
    torch.manual_seed(3)
    picture = torch.zeros(1, 3, 32, 32)
    assert torch.equal(net(picture), WindowBackbone(_CONFIG).eval()(picture))


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": None},
        {"backbone": {"input_size": 16, "depth": 3}},
        {"left": 40},
        {"right": 1},
    ],
)
def test_a_damaged_config_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    bundle = open_bundle(_bundle(tmp_path / "one", "identity:evaluation-2"))
    part = bundle.part("identity:evaluation-2")
    damaged = {**part.config, **change}
    object.__setattr__(part, "config", damaged)
    with pytest.raises(BundleError, match="config of part 'identity:evaluation-2' does not fit"):
        load_part(bundle, "identity:evaluation-2")
