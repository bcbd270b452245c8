"""VGG-Face, and the perceptual loss of face works on its first feature maps.

Source: Parkhi, Vedaldi and Zisserman, "Deep Face Recognition" (2015): VGG16 (configuration D of
Simonyan and Zisserman) for 2622 people. Parameter names are those of S. Albanie's
``vgg_face_dag.pth``. Dropout, which has no parameters, is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import ConfigError

INPUT_SIZE = 224
CLASSES = 2622
_HIDDEN = 4096
_FLAT = 512 * (INPUT_SIZE // 32) ** 2  # of the last pool, in the order of NCHW
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions
_CLASSIFIER = (("fc6", _FLAT, _HIDDEN), ("fc7", _HIDDEN, _HIDDEN), ("fc8", _HIDDEN, CLASSES))

# The mean colour in the metadata of vgg_face_dag.pth: red, green, blue, of 0..255.
_MEAN = (129.186279296875, 104.76238250732422, 93.59396362304688)
# Convention -> (whether blue comes first, what is subtracted from the channels in that order).
# The Lua network was used with blue first and the mean in the order of the other colours; its
# users' results come from that, so it is repeated and not mended.
CONVENTIONS: dict[str, tuple[bool, tuple[float, ...]]] = {
    "dag": (False, _MEAN),
    "lua": (True, _MEAN),
    "caffe": (True, _MEAN[::-1]),
}

MAPS = tuple(f"relu{b}_{i + 1}" for b, (_, n) in enumerate(_BLOCKS, 1) for i in range(n))
# Indices 1, 6, 11, 18, 25 of torchvision's VGG16, after the ReLU.
PERCEPTUAL_MAPS = tuple(f"relu{block}_1" for block in range(1, 6))


@dataclass(frozen=True)
class VggFaceConfig:
    """What a file decides about the network.

    Args:
        convention: of the input, see :data:`CONVENTIONS`: ``"dag"`` (red first), ``"lua"`` (blue
            first, the mean in the order red, green, blue), ``"caffe"`` (blue first, and the mean
            too).
        classifier: whether the layers fc6 to fc8 are there, 120 of the 145 million parameters;
            the feature maps do not need them.

    Raises:
        ConfigError: an unknown convention.
    """

    convention: str = "dag"
    classifier: bool = True

    def __post_init__(self) -> None:
        if self.convention not in CONVENTIONS:
            raise ConfigError(
                f"convention is {self.convention!r}, but must be one of {', '.join(CONVENTIONS)}; "
                "take the one of the file"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


class VggFace(nn.Module):
    """``(N, 3, 224, 224)`` RGB in [-1, 1] -> ``(N, 2622)`` scores of people, before softmax.

    :meth:`maps` takes pictures of any size from 16 pixels, as perceptual losses need it.
    """

    def __init__(self, config: VggFaceConfig) -> None:
        super().__init__()
        self.config = config
        inputs = 3
        for block, (channels, count) in enumerate(_BLOCKS, 1):
            for index in range(1, count + 1):
                layer = nn.Conv2d(inputs, channels, 3, padding=1)
                self.add_module(f"conv{block}_{index}", layer)
                inputs = channels
        for name, ins, outs in _CLASSIFIER if config.classifier else ():
            self.add_module(name, nn.Linear(ins, outs))

    def prepared(self, x: Tensor) -> Tensor:
        """``(N, 3, H, W)`` RGB in [-1, 1] -> what the first layer was trained on."""
        blue_first, mean = CONVENTIONS[self.config.convention]
        pixels = (x + 1) * 127.5
        pixels = pixels.flip(1) if blue_first else pixels
        return pixels - pixels.new_tensor(mean).view(1, 3, 1, 1)

    def maps(self, x: Tensor, names: Collection[str] = PERCEPTUAL_MAPS) -> dict[str, Tensor]:
        """Feature maps by name, in the network's order; nothing is computed beyond the last.

        Args:
            x: ``(N, 3, H, W)`` floating point RGB in [-1, 1], at least 16 pixels wide and high.
            names: of :data:`MAPS`; each is the map after that ReLU.

        Raises:
            ConfigError: another shape or type, or unknown names.
        """
        _check(x)
        if not names or not set(names) <= set(MAPS):
            raise ConfigError(
                f"the maps {', '.join(names) or 'none'} were asked for, but VGG-Face has "
                f"{', '.join(MAPS)}"
            )
        last = max(MAPS.index(name) for name in names)
        return {name: y for name, y in self._steps(x, last) if name in names}

    def hidden(self, x: Tensor) -> dict[str, Tensor]:
        """``fc6``, ``fc7`` (4096 each) and ``fc8`` (2622), each before its ReLU.

        Args:
            x: ``(N, 3, 224, 224)`` RGB in [-1, 1].

        Raises:
            ConfigError: another shape, or a network without its classifier.
        """
        _check(x)
        if x.shape[2:] != (INPUT_SIZE, INPUT_SIZE):
            raise ConfigError(
                f"the scores need pictures of shape (N, 3, {INPUT_SIZE}, {INPUT_SIZE}), not "
                f"{tuple(x.shape)}; resize them"
            )
        if not self.config.classifier:
            raise ConfigError("this VGG-Face has no classifier; load it with classifier=True")
        (_, top), *_ = reversed(self._steps(x, len(MAPS) - 1))
        y = F.max_pool2d(top, 2).flatten(1)
        found: dict[str, Tensor] = {}
        for name, *_ in _CLASSIFIER:
            y = found[name] = self.get_submodule(name)(F.relu(y))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden(x)["fc8"]

    def _steps(self, x: Tensor, last: int) -> list[tuple[str, Tensor]]:
        y = self.prepared(x)
        found: list[tuple[str, Tensor]] = []
        for name in MAPS[: last + 1]:
            if found and name.endswith("_1"):
                y = F.max_pool2d(y, 2)
            y = F.relu(self.get_submodule(name.replace("relu", "conv"))(y))
            found.append((name, y))
        return found


class PerceptualLoss(nn.Module):
    """Distance of two batches of pictures in VGG-Face's feature maps.

    The sum over the maps relu1_1, 2_1, 3_1, 4_1, 5_1 of the mean absolute difference, each times
    its weight: Zakharov et al., "Few-Shot Adversarial Learning of Realistic Neural Talking Head
    Models" (2019), who multiply the sum by 2e-3. Others weight the same maps .1, .1, 1, 1, 1.

    Args:
        network: pictures are given to it in [-1, 1]; it prepares them as its file needs it.
        weights: of the five maps.

    Raises:
        ConfigError: not five finite weights of at least 0.
    """

    def __init__(
        self, network: VggFace, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0)
    ) -> None:
        super().__init__()
        self.network = network
        self.weights = tuple(float(weight) for weight in weights)
        allowed = all(0 <= weight < float("inf") for weight in self.weights)
        if len(self.weights) != len(PERCEPTUAL_MAPS) or not allowed:
            raise ConfigError(
                f"the weights are {self.weights}, but must be {len(PERCEPTUAL_MAPS)} finite "
                "numbers of at least 0, one for each map"
            )

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of two ``(N, 3, H, W)`` batches; the target gets no gradient.

        Raises:
            ConfigError: the batches differ in shape, or :meth:`VggFace.maps` refuses them.
        """
        if x.shape != target.shape:
            raise ConfigError(f"pictures of shape {tuple(x.shape)} and {tuple(target.shape)}")
        with torch.no_grad():
            wanted = self.network.maps(target)
        found = self.network.maps(x)
        parts = [
            weight * F.l1_loss(found[name], wanted[name])
            for name, weight in zip(PERCEPTUAL_MAPS, self.weights, strict=True)
        ]
        return torch.stack(parts).sum()


def _check(x: Tensor) -> None:
    if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 16 or not x.is_floating_point():
        raise ConfigError(
            f"VGG-Face takes floating-point pictures (N, 3, H, W) of at least 16 pixels in "
            f"[-1, 1], not {tuple(x.shape)} of {x.dtype}"
        )
