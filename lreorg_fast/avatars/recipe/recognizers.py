"""Stage 2: recognizers trained differently, so that some can judge what another taught.

``training`` (ArcFace margin, Deng et al. 2019) takes part in the losses of CDFNet; those that
only judge never do. ``evaluation`` (AdaFace margin, Kim et al. 2022) differs in people, seed and
shape. ``evaluation-2`` (CosFace margin, Wang et al. 2018) differs in these as well, and in what it
looks at: it is shown the inner face of its people within the hair, ears, outline and background of
others. A person is the twenty traits alone: every attribute varies between the pictures of one
person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.avatars.recipe.data import PictureSet
from lreorg_fast.models.backbone import BackboneConfig, FaceBackbone
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.training.run import (
    Run,
    Say,
    Stateful,
    channels_last,
    restore_states,
    states,
)


@dataclass(frozen=True)
class RecognizerRecipe:
    """How one recognizer is trained.

    Args:
        role: ``training`` or one of those that only judge, which begin with ``evaluation``.
        head: which margin the classifier has.
        model: shape of the network.
        seed: of its people and its training.
        people, pictures: how many people, and pictures of each.
        epochs, batch, learning_rate: how long and how fast.
        margin: of the head, an angle (CosFace: a cosine); scale: of the cosines.
        exchanged: share of the training pictures whose surroundings of the inner face are another
            person's.
    """

    role: str
    head: Literal["arcface", "adaface", "cosface"]
    model: BackboneConfig
    seed: int
    people: int = 1500
    pictures: int = 16
    epochs: int = 6
    batch: int = 128
    learning_rate: float = 3e-3
    margin: float = 0.3
    scale: float = 24.0
    exchanged: float = 0.0


RECOGNIZERS = (
    RecognizerRecipe(
        role="training",
        head="arcface",
        model=BackboneConfig(64, 16, (32, 64, 96, 128), (1, 1, 1, 1), outputs=128),
        seed=21,
    ),
    RecognizerRecipe(
        role="evaluation",
        head="adaface",
        model=BackboneConfig(64, 12, (24, 48, 96, 128), (1, 1, 1, 1), outputs=96),
        seed=22,
        margin=0.35,
    ),
    RecognizerRecipe(
        role="evaluation-2",
        head="cosface",
        model=BackboneConfig(64, 12, (20, 40, 64, 80), (1, 2, 2, 1), outputs=64),
        seed=23,
        people=3000,
        pictures=8,
        margin=0.2,
        exchanged=0.7,
    ),
)
# Half height and width of the inner face, brows to mouth, and its centre below the middle, as
# shares of half the picture; the hair line, the ears and the chin of nearly all are outside.
_INNER = 0.52
_INNER_CENTRE = 0.14
_INNER_JITTER = 0.05


class MarginHead(nn.Module):
    """Cosine classifier over the training people with an angular margin on the true one."""

    quality: Tensor

    def __init__(self, recipe: RecognizerRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.weight = nn.Parameter(torch.randn(recipe.people, recipe.model.outputs) * 0.05)
        self.register_buffer("quality", torch.tensor([10.0, 4.0]))

    def forward(self, raw: Tensor, person: Tensor, ramp: float) -> Tensor:
        """Cross entropy; ``ramp`` in [0, 1] scales the margin (it grows during training)."""
        cosine = F.linear(F.normalize(raw), F.normalize(self.weight)).clamp(-0.999, 0.999)
        margin = self.recipe.margin * ramp
        angle, addition = torch.full_like(raw[:, :1], margin), torch.zeros_like(raw[:, :1])
        if self.recipe.head == "adaface":
            quality = self._quality(raw)
            angle, addition = -margin * quality, margin * quality + margin
        elif self.recipe.head == "cosface":
            angle, addition = addition, angle
        true = cosine.gather(1, person[:, None])
        shifted = torch.cos((torch.acos(true) + angle).clamp(1e-3, math.pi - 1e-3)) - addition
        logits: Tensor = self.recipe.scale * cosine.scatter(1, person[:, None], shifted)
        return F.cross_entropy(logits, person)

    @torch.no_grad()
    def _quality(self, raw: Tensor) -> Tensor:
        """Feature norm, standardized by running statistics and clipped to [-1, 1] (h = 1/3)."""
        norm = raw.norm(dim=1, keepdim=True).clamp(0.001, 100)
        if self.training:
            seen = torch.stack([norm.mean(), norm.std()])
            self.quality.lerp_(seen, 0.01)
        mean, deviation = self.quality
        scaled: Tensor = (norm - mean) / (deviation + 1e-3) * 0.333
        return scaled.clamp(-1, 1)


def exchange_surroundings(
    pictures: Tensor, share: float, random: torch.Generator | None = None
) -> Tensor:
    """Put the inner face of a ``share`` of the pictures into the surroundings of the next one.

    ``(N, 3, S, S)`` -> the same. The border is a rounded rectangle of varying place and size with
    a soft edge, so that it says nothing itself.
    """
    count, size = len(pictures), pictures.shape[-1]
    line = (torch.arange(size) + 0.5) * (2.0 / size) - 1
    change = _INNER_JITTER * (torch.rand(4, count, 1, 1, generator=random) * 2 - 1)
    x = (line.view(1, 1, -1) - change[0]) / (_INNER + change[1])
    y = (line.view(1, -1, 1) - _INNER_CENTRE - change[2]) / (_INNER + change[3])
    inside = ((1 - (x**4 + y**4) ** 0.25) * (size / 4)).clamp(0, 1)
    kept = (torch.rand(count, 1, 1, generator=random) >= share).float()
    mask = torch.maximum(inside, kept)[:, None].to(pictures)
    return mask * pictures + (1 - mask) * pictures.roll(-1, dims=0)


def train_recognizer(
    recipe: RecognizerRecipe, data: PictureSet, folder: Path, device: torch.device, say: Say
) -> None:
    """Train, or go on training, one recognizer on people of its own."""
    torch.manual_seed(recipe.seed)
    steps = recipe.epochs * (len(data) // recipe.batch)
    run = Run(folder, f"recognizer {recipe.role}", steps, "steps", say)
    net = channels_last(FaceBackbone(recipe.model).to(device))
    head = MarginHead(recipe).to(device)
    parameters = [*net.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=steps + 1
    )
    parts: dict[str, Stateful] = {
        "net": net,
        "head": head,
        "optimizer": optimizer,
        "schedule": schedule,
    }
    state = run.resume()
    if state is not None:
        restore_states(parts, state)
    person = torch.arange(recipe.people).repeat_interleave(recipe.pictures)
    for position in run.steps(1, lambda: states(parts)):
        index = torch.randint(len(data), (recipe.batch,))
        pictures = to_unit(data.pictures[index]).to(device)
        if recipe.exchanged:
            pictures = exchange_surroundings(pictures, recipe.exchanged)
        pictures = pictures + 0.02 * torch.randn_like(pictures)
        with torch.autocast(device.type, torch.bfloat16):
            raw = net.raw(pictures)
        loss = head(raw, person[index].to(device), min(1.0, position / (0.4 * steps)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        run.track(loss=loss.item())
    run.finish(parameters=sum(p.numel() for p in net.parameters()))


def load_recognizer(recipe: RecognizerRecipe, folder: Path) -> FaceBackbone:
    """A trained recognizer, frozen, in evaluation mode."""
    net = FaceBackbone(recipe.model)
    net.load_state_dict(torch.load(folder / "state.pt", weights_only=True)["payload"]["net"])
    return net.requires_grad_(False).eval()


def look(recognizer: FaceBackbone, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Unit embeddings and feature maps in one pass, in bfloat16 where that is faster."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        maps = recognizer.features(pictures)
        raw = recognizer.head(maps[-1])
    return F.normalize(raw.float(), dim=1), maps
