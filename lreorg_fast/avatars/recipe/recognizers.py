"""Stage 2: recognizers trained differently, so that some can judge what another taught.

``training`` (ArcFace margin, Deng et al. 2019) takes part in the losses of CDFNet; those that
only judge never do. ``evaluation`` (AdaFace margin, Kim et al. 2022) differs in people, seed and
shape. ``evaluation-2`` differs in these as well, has no classifier (it learns from pairs, Sohn
2016, Khosla et al. 2020), and sees something else: brows to mouth and nothing around them, so that
neither hair nor outline, ears or background can be why it knows somebody. A person is the twenty
traits alone: every attribute varies between the pictures of one person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.avatars.recipe.data import PictureSet
from lreorg_fast.models.backbone import BackboneConfig, FaceBackbone
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.models.window import WindowBackbone, WindowConfig
from lreorg_fast.training.run import (
    Run,
    Say,
    Stateful,
    channels_last,
    restore_states,
    states,
)

Recognizer: TypeAlias = FaceBackbone | WindowBackbone


@dataclass(frozen=True)
class RecognizerRecipe:
    """How one recognizer is trained.

    Args:
        role: ``training``, or of one that only judges: ``evaluation``, ``evaluation-2``, ...
        head: which margin the classifier has; ``pairs``: none, each picture is to find the other
            one of its person in the batch.
        model: shape of the network, and what it sees if not the whole picture.
        seed: of its people and its training.
        people, pictures: how many people, and pictures of each.
        epochs, batch, learning_rate: how long and how fast.
        margin: of the head, an angle; scale: of the cosines.
        dropout: share of the last map's values that are left out in training.
    """

    role: str
    head: Literal["arcface", "adaface", "pairs"]
    model: BackboneConfig | WindowConfig
    seed: int
    people: int = 1500
    pictures: int = 16
    epochs: int = 6
    batch: int = 128
    learning_rate: float = 3e-3
    margin: float = 0.3
    scale: float = 24.0
    dropout: float = 0.5


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
        head="pairs",
        # Brows to mouth of nearly everybody, without the hair line and the sides of the head.
        model=WindowConfig(
            64, 16, 20, BackboneConfig(32, 16, (24, 48, 80, 96), (1, 2, 1, 1), outputs=64)
        ),
        seed=23,
        batch=192,
        margin=0.0,
        # Of a window's 2 x 2 values per channel, half are too few to learn from.
        dropout=0.1,
    ),
)


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


class PairHead(nn.Module):
    """Each of 2 M pictures, rows i and i + M of the same person, is to find its other one."""

    def __init__(self, recipe: RecognizerRecipe) -> None:
        super().__init__()
        self.scale = recipe.scale

    def forward(self, raw: Tensor, person: Tensor, ramp: float) -> Tensor:
        """Cross entropy over the batch; ``person`` and ``ramp`` are not needed."""
        unit = F.normalize(raw)
        logits = self.scale * unit @ unit.T
        logits = logits.masked_fill(torch.eye(len(raw), dtype=torch.bool, device=raw.device), -1e4)
        return F.cross_entropy(
            logits, torch.arange(len(raw), device=raw.device).roll(len(raw) // 2)
        )


def batch_positions(recipe: RecognizerRecipe) -> Tensor:
    """Positions of the pictures of one step."""
    if recipe.head != "pairs":
        return torch.randint(recipe.people * recipe.pictures, (recipe.batch,))
    count = recipe.batch // 2
    person = torch.randperm(recipe.people)[:count]
    first = torch.randint(recipe.pictures, (count,))
    second = (first + 1 + torch.randint(recipe.pictures - 1, (count,))) % recipe.pictures
    return (person * recipe.pictures).repeat(2) + torch.cat([first, second])


def train_recognizer(
    recipe: RecognizerRecipe, data: PictureSet, folder: Path, device: torch.device, say: Say
) -> None:
    """Train, or go on training, one recognizer on people of its own."""
    torch.manual_seed(recipe.seed)
    steps = recipe.epochs * (len(data) // recipe.batch)
    run = Run(folder, f"recognizer {recipe.role}", steps, "steps", say)
    net = channels_last(_network(recipe).to(device))
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = recipe.dropout
    head = (PairHead if recipe.head == "pairs" else MarginHead)(recipe).to(device)
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
        index = batch_positions(recipe)
        pictures = to_unit(data.pictures[index]).to(device)
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


def _network(recipe: RecognizerRecipe) -> Recognizer:
    if isinstance(recipe.model, WindowConfig):
        return WindowBackbone(recipe.model)
    return FaceBackbone(recipe.model)


def load_recognizer(recipe: RecognizerRecipe, folder: Path) -> Recognizer:
    """A trained recognizer, frozen, in evaluation mode."""
    net = _network(recipe)
    net.load_state_dict(torch.load(folder / "state.pt", weights_only=True)["payload"]["net"])
    return net.requires_grad_(False).eval()


def look(recognizer: FaceBackbone, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Unit embeddings and feature maps in one pass, in bfloat16 where that is faster."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        maps = recognizer.features(pictures)
        raw = recognizer.head(maps[-1])
    return F.normalize(raw.float(), dim=1), maps
