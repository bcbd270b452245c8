"""Stage 3: the attribute classifier and face detector, for evaluation and the input check only.

It reads the ten attributes as numbers and says whether a picture holds a face at all. It takes
no part in training CDFNet, so its verdict on kept attributes is independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.avatars.recipe.data import PictureSet
from lreorg_fast.avatars.traits import ATTRIBUTES
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

_MODEL = BackboneConfig(
    64, 8, (16, 48, 64, 96), (1, 1, 1, 1), outputs=len(ATTRIBUTES) + 1, normalize=False
)


@dataclass(frozen=True)
class AttributeRecipe:
    """How the classifier is trained; its outputs are the standardized attributes and a logit."""

    model: BackboneConfig = _MODEL
    seed: int = 31
    epochs: int = 3
    batch: int = 128
    negatives: int = 24
    learning_rate: float = 2e-3


def faceless(pictures: Tensor) -> Tensor:
    """Turn portraits ``(N, 3, S, S)`` into pictures without a recognizable face, six kinds."""
    count, _, size, _ = pictures.shape
    kind = torch.arange(count) % 6
    out = pictures.clone()
    out[kind == 0] = pictures[kind == 0][:, :, :1, :1].expand(-1, -1, size, size)
    cells = F.avg_pool2d(pictures[kind == 1], size // 4)
    out[kind == 1] = F.interpolate(cells, size=size, mode="nearest")
    cells = F.avg_pool2d(pictures[kind == 2], size // 4)
    out[kind == 2] = F.interpolate(cells, size=size, mode="bilinear")
    quarter = size // 4
    tiles = F.unfold(pictures[kind == 3], quarter, stride=quarter)
    shuffled = tiles[:, :, torch.randperm(tiles.shape[2])]
    out[kind == 3] = F.fold(shuffled, size, quarter, stride=quarter)
    out[kind == 4] = torch.rand_like(pictures[kind == 4]) * 2 - 1
    filled = pictures[kind == 5].clone()
    edge = size // 8
    filled[:, :, edge:-edge, edge:-edge] = torch.rand(len(filled), 3, 1, 1) * 2 - 1
    out[kind == 5] = filled
    return out


def train_attributes(
    recipe: AttributeRecipe, data: PictureSet, folder: Path, device: torch.device, say: Say
) -> None:
    """Train, or go on training; the labels' mean and deviation are saved beside the net."""
    torch.manual_seed(recipe.seed)
    steps = recipe.epochs * (len(data) // recipe.batch)
    run = Run(folder, "attributes", steps, "steps", say)
    mean, deviation = data.labels.mean(0), data.labels.std(0)
    labels = (data.labels - mean) / deviation
    net = channels_last(FaceBackbone(recipe.model).to(device))
    optimizer = torch.optim.AdamW(net.parameters(), recipe.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=steps + 1
    )
    parts: dict[str, Stateful] = {"net": net, "optimizer": optimizer, "schedule": schedule}
    state = run.resume()
    if state is not None:
        restore_states(parts, state)

    def payload() -> dict[str, object]:
        return {**states(parts), "mean": mean, "deviation": deviation}

    for _ in run.steps(1, payload):
        index = torch.randint(len(data), (recipe.batch + recipe.negatives,))
        pictures = to_unit(data.pictures[index])
        pictures = torch.cat([pictures[: recipe.batch], faceless(pictures[recipe.batch :])])
        pictures = (pictures + 0.03 * torch.randn_like(pictures)).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            outputs = net(pictures)
        wanted = labels[index[: recipe.batch]].to(device)
        values = F.mse_loss(outputs[: recipe.batch, :-1], wanted)
        is_face = (torch.arange(len(index), device=device) < recipe.batch).float()
        faces = F.binary_cross_entropy_with_logits(outputs[:, -1], is_face)
        loss = values + 0.2 * faces
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        run.track(values=values.item(), face=faces.item())
    run.finish(parameters=sum(p.numel() for p in net.parameters()))
