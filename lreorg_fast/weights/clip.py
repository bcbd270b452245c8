"""CLIP models: open_clip's networks, with weights from files that people have.

open_clip builds the architecture; it is not asked to read or fetch weights, because it would open
pickles and connections. Formats: safetensors, any file of ``torch.save`` with a state dict, and
OpenAI's TorchScript archives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lreorg_fast.errors import CheckpointError, ConfigError, MissingExtra
from lreorg_fast.files import parse_json
from lreorg_fast.weights.cache import sha256_of
from lreorg_fast.weights.checkpoint import Checkpoint, TensorRef, open_checkpoint, tensor_refs
from lreorg_fast.weights.layouts import describe, wrong_kind
from lreorg_fast.weights.registry import published_file
from lreorg_fast.weights.tensors import check_finite, check_fit, open_weights

# Under these names open_clip itself looks for a model in a folder.
_CONFIG_FILE, _WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
_MOST_CONFIG_BYTES = 2**20
_LARGEST_NUMBER = 2**20  # in a configuration; the vocabulary is the largest there is
# open_clip reserves memory for these before a weight is looked at: the square of a context's mask.
_LARGEST = {"context_length": 2**12, "image_size": 2**12}
_MOST_LAYERS = 200

# Of OpenAI's and most other models (openai/CLIP, clip/clip.py); a configuration may name others.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)

# Only OpenAI's own files hold these three numbers.
_OPENAI = frozenset({"input_resolution", "context_length", "vocab_size"})
_OPENAI_PUBLISHED = "clip-vit-b32-openai"  # its copy as safetensors lacks them
_FETCHING = ("hf_model_name", "hf_tokenizer_name", "timm_model_pretrained")
_TIMM_NAME = re.compile(r"[A-Za-z0-9_.]+")  # with a colon, timm would fetch from a hub
_TEXT_MASK = "attn_mask"  # computed, not learned; TorchScript archives may carry it


@dataclass(frozen=True)
class _Design:
    """What open_clip builds the model of, and how pictures are given to it."""

    name: str
    model: Mapping[str, Any]
    mean: tuple[float, ...] = _MEAN
    deviation: tuple[float, ...] = _DEVIATION


@dataclass
class Clip:
    """A CLIP model that compares sentences with pictures.

    Attributes:
        model: the open_clip module, frozen, in evaluation mode.
        context_length: tokens of a sentence, with its start and end.
        image_size: side length in pixels of what the image tower sees.
        mean, deviation: of the pictures it was trained on, per channel, for values in [0, 1].
    """

    model: nn.Module
    context_length: int
    image_size: int
    mean: tuple[float, ...] = _MEAN
    deviation: tuple[float, ...] = _DEVIATION
    _tokenizer: Any = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def dim(self) -> int:
        """Length of the features."""
        return int(self.text(["a"]).shape[1])

    def to(self, device: str | torch.device) -> Clip:
        """Move the model; returns itself."""
        self.model.to(device)
        return self

    def tokens(self, sentences: Sequence[str]) -> Tensor:
        """Token ids ``(N, context_length)`` int64 on the CPU, padded with zeros.

        Raises:
            ConfigError: no sentence, an empty one, or one that is too long; nothing is cut off.
        """
        if isinstance(sentences, str) or not sentences:
            raise ConfigError("sentences must be a list of at least one text")
        for sentence in sentences:
            if not isinstance(sentence, str) or not sentence.strip():
                raise ConfigError(f"{sentence!r:.80} is no sentence; give a text that is not empty")
            count = len(self._tokenizer.encode(sentence)) + 2
            if count > self.context_length:
                raise ConfigError(
                    f"the sentence {sentence!r:.80} has {count} tokens, but the model takes "
                    f"{self.context_length}; shorten it"
                )
        tokens: Tensor = self._tokenizer(list(sentences))
        return tokens

    def text(self, sentences: Sequence[str], normalize: bool = False) -> Tensor:
        """Features of sentences, ``(N, dim)`` float32; of unit length if asked.

        Raises:
            ConfigError: see :meth:`tokens`.
        """
        encode: Any = self.model.encode_text
        features: Tensor = encode(self.tokens(sentences).to(self.device)).float()
        return F.normalize(features, dim=1) if normalize else features

    def image(self, x: Tensor, normalize: bool = False) -> Tensor:
        """Features of pictures, ``(N, dim)`` float32; of unit length if asked.

        Differentiable with respect to ``x``.

        Args:
            x: ``(N, 3, H, W)`` RGB in [-1, 1]; resized (bicubic, antialiased) to the model's
                size if it has another.
            normalize: scale to unit length.

        Raises:
            ConfigError: another shape.
        """
        if x.dim() != 4 or x.shape[1] != 3:
            raise ConfigError(f"CLIP takes pictures of shape (N, 3, H, W), not {tuple(x.shape)}")
        size = (self.image_size, self.image_size)
        if x.shape[2:] != size:
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False)
        mean = torch.tensor(self.mean, device=x.device)[:, None, None]
        deviation = torch.tensor(self.deviation, device=x.device)[:, None, None]
        encode: Any = self.model.encode_image
        features: Tensor = encode(((x + 1) / 2 - mean) / deviation).float()
        return F.normalize(features, dim=1) if normalize else features

    def classify(self, x: Tensor, sentences: Sequence[str]) -> Tensor:
        """Which sentence fits: probabilities ``(N, len(sentences))``, by the model's own scale."""
        scale: Any = self.model.logit_scale
        cosines = self.image(x, normalize=True) @ self.text(sentences, normalize=True).t()
        return torch.softmax(scale.exp() * cosines, dim=1)


def load_clip(name: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Clip:
    """A CLIP model of open_clip with the weights of a file, float32 on the CPU, frozen.

    Args:
        name: a model name of open_clip such as ``ViT-B-32-quickgelu``; a JSON file with its
            configuration (``model_cfg`` alone, or ``open_clip_config.json``); or a folder with
            ``open_clip_config.json``.
        path: the weights; may be left out for a folder that holds ``open_clip_model.safetensors``.

    OpenAI trained with QuickGELU, which the file does not say: with its weights, and any that were
    trained from them, take a name that ends in ``-quickgelu``. Other weights give wrong features
    without an error if the name is the wrong one of the two.

    A name says nothing of the pictures' normalization either: it is OpenAI's, as in open_clip.
    Weights that were trained with another (LAION's ViT-L-14, MobileCLIP, PE-Core) need the
    ``open_clip_config.json`` that was published beside them.

    Raises:
        MissingExtra: open_clip is not installed.
        ConfigError: an unknown name, or a configuration that is not used here.
        CheckpointError: not a CLIP model, or not of this architecture.
    """
    design, weights = _find_design(name), path
    if weights is None:
        if not Path(name).is_dir():
            raise ConfigError(f"no weights were given for '{name}'; give the path of their file")
        weights = Path(name) / _WEIGHTS_FILE
    source = Path(weights)
    with open_checkpoint(source) as checkpoint:
        refs = _state(checkpoint, design)
        with torch.device("meta"):
            check_fit(_build(design), refs, source)
        model = _build(design)
        with torch.no_grad():
            for key, value in model.state_dict().items():
                stored = refs[key].read()
                check_finite(key, stored, source)
                value.copy_(stored)
    text = _text_config(design)
    context = int(text.get("context_length", 77))
    open_clip = _open_clip()
    tower: Any = model.visual
    size = tower.image_size
    return Clip(
        model.requires_grad_(False).eval(),
        context,
        int(size[0] if isinstance(size, tuple | list) else size),
        design.mean,
        design.deviation,
        open_clip.SimpleTokenizer(context_length=context),
    )


def _open_clip() -> Any:
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that does not fit
        raise MissingExtra(
            "CLIP needs open_clip with a torchvision that fits torch: "
            "pip install 'lreorg_fast[train]'"
        ) from error
    return open_clip


def _find_design(name: str | os.PathLike[str]) -> _Design:
    place = Path(name)
    if place.is_dir():
        return _design_of_file(place / _CONFIG_FILE)
    if place.suffix == ".json":
        return _design_of_file(place)
    open_clip = _open_clip()
    if str(name) not in open_clip.list_models():
        raise ConfigError(
            f"'{name!s:.80}' is no model of open_clip; give a name that open_clip.list_models() "
            "shows, or the JSON file of a configuration"
        )
    config = open_clip.get_model_config(str(name))
    return _checked(_Design(str(name), config))


def _design_of_file(source: Path) -> _Design:
    with open_weights(source, follow_links=True) as stream:
        content = stream.read(_MOST_CONFIG_BYTES + 1)
    try:
        if len(content) > _MOST_CONFIG_BYTES:
            raise ValueError("it is too long")
        fields = parse_json(content)
        model = fields.get("model_cfg", fields)
        pictures = fields.get("preprocess_cfg", {})
        mean, deviation = (
            tuple(float(value) for value in pictures.get(key, standard))
            for key, standard in (("mean", _MEAN), ("std", _DEVIATION))
        )
        if len(mean) != 3 or len(deviation) != 3 or min(deviation) <= 0:
            raise ValueError("mean and std must be three numbers each, std positive")
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"'{source}' is no configuration of open_clip: {error!s:.100}") from error
    return _checked(_Design(source.name, model, mean, deviation))


def _checked(design: _Design) -> _Design:
    """Refuse what would fetch something, or what a model of any sense does not have."""
    text = _text_config(design)
    for tower in (text, design.model.get("vision_cfg")):
        if not isinstance(tower, Mapping):
            raise ConfigError(f"the configuration '{design.name}' lacks vision_cfg or text_cfg")
        fetched = [key for key in _FETCHING if tower.get(key)]
        if fetched:
            raise ConfigError(
                f"the configuration '{design.name}' has {fetched[0]}, for which open_clip fetches "
                "a model; take one with its own text and image towers"
            )
        layers = tower.get("layers", 1)
        if max(layers if isinstance(layers, list | tuple) else [layers]) > _MOST_LAYERS:
            raise ConfigError(
                f"the configuration '{design.name}' has more than {_MOST_LAYERS} layers"
            )
    vision = design.model["vision_cfg"]
    timm = vision.get("timm_model_name")
    if timm and not (isinstance(timm, str) and _TIMM_NAME.fullmatch(timm)):
        raise ConfigError(
            f"the configuration '{design.name}' has timm_model_name {timm!r:.80}, which timm would "
            "fetch; give the name of an architecture of timm"
        )
    if vision.get("pos_embed_type", "learnable") != "learnable":
        raise ConfigError(
            f"the configuration '{design.name}' computes the positions of its image tower; take "
            "one that has learnt them"
        )
    for key, value in [*design.model.items(), *text.items(), *vision.items()]:
        largest = _LARGEST.get(key, _LARGEST_NUMBER)
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int | float) and not abs(number) <= largest:
                raise ConfigError(f"the configuration '{design.name}' has {key} = {number!s:.30}")
    return design


def _text_config(design: _Design) -> Mapping[str, Any]:
    text = design.model.get("text_cfg") if isinstance(design.model, Mapping) else None
    if not isinstance(text, Mapping):
        raise ConfigError(f"the configuration '{design.name}' lacks text_cfg")
    return text


def _build(design: _Design) -> nn.Module:
    """The network with fresh parameters.

    Raises:
        ConfigError: open_clip refuses the configuration.
    """
    open_clip = _open_clip()
    settings = dict(design.model)
    kind = open_clip.CustomTextCLIP if settings.pop("custom_text", False) else open_clip.CLIP
    try:
        model: nn.Module = kind(**settings)
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise ConfigError(
            f"open_clip cannot build the configuration '{design.name}': {error!s:.150}"
        ) from error
    return model


def _state(checkpoint: Checkpoint, design: _Design) -> dict[str, TensorRef]:
    """The tensors by open_clip's names.

    Raises:
        CheckpointError: another kind of file, or OpenAI's weights for a model without QuickGELU.
    """
    kind = describe(checkpoint)
    in_bundle = checkpoint.path.name == _WEIGHTS_FILE  # open_clip's name; the demo bundle has it
    if not in_bundle and (kind is None or "load_clip" not in kind.loaders):
        raise wrong_kind(checkpoint, "a CLIP model")
    tree = checkpoint.content
    for inner in ("state_dict", "model"):
        if isinstance(tree, Mapping) and isinstance(tree.get(inner), Mapping):
            tree = tree[inner]
    refs = tensor_refs(tree)
    if refs and all(key.startswith("module.") for key in refs):
        refs = tensor_refs(tree, "module.")
    if not design.model.get("quick_gelu") and _is_openais(tree, checkpoint.path):
        raise CheckpointError(
            f"'{checkpoint.path}' holds OpenAI's weights, which were trained with QuickGELU, but "
            f"'{design.name}' has GELU; take '{design.name}-quickgelu', or set quick_gelu in a "
            "configuration of your own"
        )
    return {
        key: ref
        for key, ref in refs.items()
        if key not in _OPENAI and key.rpartition(".")[2] != _TEXT_MASK
    }


def _is_openais(tree: Any, path: Path) -> bool:
    """Whether a file says that it is OpenAI's, or is the published copy that does not say it."""
    if isinstance(tree, Mapping) and set(tree) >= _OPENAI:
        return True
    copy = published_file(_OPENAI_PUBLISHED)
    return path.stat().st_size == copy.bytes and sha256_of(path) == copy.sha256
