"""Stage 4: a small CLIP model trained on avatars and captions, as a plain open_clip model.

The configuration is an ordinary open_clip one (convolutional image tower, standard tokenizer),
so the result loads with ``open_clip.create_model("local-dir:...")`` like any other. The token
table keeps the standard 49,408 rows; rows of words that no caption uses are zero, which
compresses to nothing in the wheel.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.avatars.recipe.captions import caption, contents
from lreorg_fast.avatars.recipe.data import PictureSet
from lreorg_fast.avatars.traits import ATTRIBUTE_NAMES
from lreorg_fast.errors import MissingExtra
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.models.pixels import to_unit
from lreorg_fast.training.run import Run, Say

EMBED_DIM = 64
# Scale of cosines in D (Eq. 9). The model's own (16) gives certainties beyond 1 - 1e-6, whose
# cross entropy has gradients in the thousands or, where it is clamped, none.
SHARPNESS = 5.0
_UNCLEAR = -100  # a picture about which a keyword says nothing
_ALIKE_CONTENTS = 0.6
_ALIKE = 0.3  # names may be this alike: real CLIP's are, and a linear map tells them apart
MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": EMBED_DIM,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 12, "head_width": 48},
    "text_cfg": {
        "context_length": 48,
        "vocab_size": 49408,
        "width": 64,
        "heads": 4,
        "layers": 2,
    },
}
PREPROCESS_CONFIG: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 64}


@dataclass(frozen=True)
class ClipRecipe:
    """How the model is trained.

    ``contents`` weights a classification loss over the sentences of each keyword, and ``names`` a
    penalty on keyword names, and on contents of one keyword, whose text features are alike.
    Measured without them after 1,200 steps: all eight keyword features within a cosine of .99,
    which CDFNet could not tell apart, and "smiling" against "not smiling" at chance (AUC .50),
    because the two sentences had one feature (cosine .998) and the pictures had no reason to
    differ along it.
    """

    seed: int = 41
    steps: int = 2100
    contents: float = 1.0
    names: float = 1.0
    batch: int = 128
    learning_rate: float = 1.5e-3
    warm_up: int = 100


def build_clip() -> tuple[nn.Module, Any]:
    """A new model and its tokenizer; open_clip is an optional dependency."""
    try:
        from open_clip.model import CLIP
        from open_clip.tokenizer import SimpleTokenizer
    except (ImportError, RuntimeError) as error:
        raise MissingExtra(
            "training needs open_clip with a torchvision that fits torch: "
            "pip install 'lreorg_fast[train]'"
        ) from error
    model = CLIP(**MODEL_CONFIG)
    context = MODEL_CONFIG["text_cfg"]["context_length"]
    return model, SimpleTokenizer(context_length=context)


def _drop_unused_tokens(model: nn.Module, seen: Tensor) -> None:
    """Zero the embedding rows of tokens that no caption contained."""
    with torch.no_grad():
        table: nn.Embedding = model.token_embedding  # type: ignore[assignment]
        table.weight[~seen] = 0


class _KeywordLosses:
    """What the losses of CDFNet will ask of this model, asked while it is trained."""

    def __init__(self, tokenizer: Any, device: torch.device) -> None:
        self.keywords = [keyword for keyword in KEYWORDS.values() if keyword.contents]
        sentences = [s for keyword in self.keywords for s in keyword.sentences]
        self.tokens = tokenizer([*KEYWORDS, *sentences]).to(device)

    def __call__(
        self, model: nn.Module, image: Tensor, scale: Tensor, labels: list[list[float]]
    ) -> tuple[Tensor, Tensor]:
        """(classification over contents, likeness of texts) for unit image features."""
        text = F.normalize(model.encode_text(self.tokens).float(), dim=1)  # type: ignore[operator]
        names, text = text[: len(KEYWORDS)], text[len(KEYWORDS) :]
        alike = names @ names.t() - torch.eye(len(names), device=names.device)
        looks = [dict(zip(ATTRIBUTE_NAMES, label, strict=True)) for label in labels]
        words = [contents(look) for look in looks]
        likeness = F.relu(alike - _ALIKE).square().sum(1).mean()
        found = []
        for keyword in self.keywords:
            rows, text = text[: len(keyword.contents)], text[len(keyword.contents) :]
            wanted = [
                keyword.contents.index(w[keyword.name])
                if w.get(keyword.name) in keyword.contents
                else _UNCLEAR
                for w in words
            ]
            target = torch.tensor(wanted, device=image.device)
            logits = scale * image @ rows.t()
            between = rows @ rows.t() - torch.eye(len(rows), device=rows.device)
            likeness = likeness + F.relu(between - _ALIKE_CONTENTS).square().mean()
            found.append(F.cross_entropy(logits, target, ignore_index=_UNCLEAR))
        return torch.stack(found).mean(), likeness


def train_clip(
    recipe: ClipRecipe, data: PictureSet, folder: Path, device: torch.device, say: Say
) -> None:
    """Train, or go on training, with the symmetric contrastive loss."""
    torch.manual_seed(recipe.seed)
    draw = random.Random(recipe.seed)
    run = Run(folder, "clip", recipe.steps, "steps", say)
    model, tokenizer = build_clip()
    model = model.to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.02
    )
    seen = torch.zeros(MODEL_CONFIG["text_cfg"]["vocab_size"], dtype=torch.bool)
    state = run.resume()
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
        draw.setstate(state["captions"])

    def payload() -> dict[str, Any]:
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "seen": seen,
            "captions": draw.getstate(),
        }

    target = torch.arange(recipe.batch, device=device)
    keyword_losses = _KeywordLosses(tokenizer, device)
    for position in run.steps(1, payload):
        warm = min(1.0, (position + 1) / recipe.warm_up)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warm * (1 - 0.95 * position / recipe.steps)
        index = torch.randint(len(data), (recipe.batch,))
        pictures = to_unit(data.pictures[index]).to(device)
        labels = data.labels[index].tolist()
        tokens = tokenizer([caption(label, draw) for label in labels])
        seen[tokens.flatten()] = True
        with torch.autocast(device.type, torch.bfloat16):
            image = model.encode_image(pictures)  # type: ignore[operator]
            text = model.encode_text(tokens.to(device))  # type: ignore[operator]
        image, text = F.normalize(image.float(), dim=1), F.normalize(text.float(), dim=1)
        scale: Tensor = model.logit_scale.clamp(max=4.6).exp()  # type: ignore[operator]
        logits = scale * image @ text.t()
        pairs = (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2
        meaning, alike = keyword_losses(model, image, scale, labels)
        loss = pairs + recipe.contents * meaning + recipe.names * alike
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.track(pairs=pairs.item(), contents=meaning.item(), names=alike.item())
    _drop_unused_tokens(model, seen)
    run.save(payload())
    run.finish(parameters=sum(p.numel() for p in model.parameters()), tokens=int(seen.sum()))


class ClipMeaning:
    """CLIP's distributions over the sentences of each keyword, and the keyword features."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.model, self.tokenizer = build_clip()
        state = torch.load(folder / "state.pt", weights_only=True)["payload"]
        self.model.load_state_dict(state["model"])
        self.model.requires_grad_(False).eval().to(device)
        self.device = device
        self.sentences = {
            name: self.text(list(keyword.sentences))
            for name, keyword in KEYWORDS.items()
            if keyword.contents
        }

    def text(self, sentences: list[str]) -> Tensor:
        """Unit text features ``(len(sentences), EMBED_DIM)``."""
        tokens = self.tokenizer(sentences).to(self.device)
        return F.normalize(self.model.encode_text(tokens), dim=1)  # type: ignore[operator]

    def keyword_features(self) -> dict[str, Tensor]:
        """The feature that steers CDFNet for each keyword: that of its own name."""
        names = list(KEYWORDS)
        return dict(zip(names, self.text(names), strict=True))

    def image(self, picture: Tensor) -> Tensor:
        """Unit image features ``(N, EMBED_DIM)`` of pictures in [-1, 1]."""
        with torch.autocast(picture.device.type, torch.bfloat16):
            image = self.model.encode_image(picture)  # type: ignore[operator]
        return F.normalize(image.float(), dim=1)

    def contents(
        self, picture: Tensor, keywords: Sequence[str], sharpness: float = SHARPNESS
    ) -> list[Tensor]:
        """Distributions over the sentences of each keyword, ``(N, contents)`` each."""
        if not keywords:
            return []
        return self.contents_of(self.image(picture), keywords, sharpness)

    def contents_of(
        self, image: Tensor, keywords: Sequence[str], sharpness: float = SHARPNESS
    ) -> list[Tensor]:
        """:meth:`contents` for unit image features, which are the expensive part."""
        logits = [sharpness * image @ self.sentences[keyword].t() for keyword in keywords]
        return [torch.softmax(rows, dim=1) for rows in logits]
