"""The stages in order, what each needs, and all of their settings in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from lreorg_fast.avatars.recipe.attributes import AttributeRecipe, train_attributes
from lreorg_fast.avatars.recipe.autoencoder import (
    REFINEMENT,
    AutoencoderRecipe,
    load_autoencoder,
    train_autoencoder,
)
from lreorg_fast.avatars.recipe.cdfnet import CDFNetRecipe, load_cdfnet, train_demo_cdfnet
from lreorg_fast.avatars.recipe.clip import ClipMeaning, ClipRecipe, train_clip
from lreorg_fast.avatars.recipe.data import PictureSet, picture_set
from lreorg_fast.avatars.recipe.encoder import EncoderRecipe, load_encoder, train_encoder
from lreorg_fast.avatars.recipe.mapping import MappingRecipe, load_mapping, train_mapping
from lreorg_fast.avatars.recipe.recognizers import (
    RECOGNIZERS,
    Recognizer,
    RecognizerRecipe,
    load_recognizer,
    train_recognizer,
)
from lreorg_fast.avatars.recipe.tables import TablesRecipe
from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import ConfigError
from lreorg_fast.models import BackboneConfig, E4EEncoder, FaceBackbone, StyleGAN2Generator
from lreorg_fast.training.run import Run, Say

STAGES = (
    "recognizers",
    "attributes",
    "clip",
    "autoencoder",
    "refinement",
    "mapping",
    "encoder",
    "cdfnet",
)


@dataclass(frozen=True)
class Recipe:
    """Every setting of the demo bundle; the defaults made the committed one."""

    portraits: int = 40_000
    portraits_seed: int = 1
    recognizers: tuple[RecognizerRecipe, ...] = RECOGNIZERS
    attributes: AttributeRecipe = field(default_factory=AttributeRecipe)
    clip: ClipRecipe = field(default_factory=ClipRecipe)
    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    refinement: AutoencoderRecipe = REFINEMENT
    mapping: MappingRecipe = field(default_factory=MappingRecipe)
    encoder: EncoderRecipe = field(default_factory=EncoderRecipe)
    cdfnet: CDFNetRecipe = field(default_factory=CDFNetRecipe)
    tables: TablesRecipe = field(default_factory=TablesRecipe)

    def __post_init__(self) -> None:
        if not isinstance(self.recognizers[0].model, BackboneConfig):
            raise ConfigError("the first recognizer takes part in losses: it must see all")
        first, second = self.autoencoder, self.refinement
        if (first.encoder, first.generator) != (second.encoder, second.generator):
            raise ConfigError("autoencoder and refinement must have the same encoder and generator")


@dataclass(frozen=True)
class Trained:
    """All networks of the bundle, on the CPU, frozen."""

    generator: StyleGAN2Generator
    encoder: E4EEncoder
    net: CDFNet
    recognizers: dict[str, Recognizer]
    attributes: FaceBackbone
    attribute_statistics: tuple[Tensor, Tensor]
    clip: ClipMeaning


class Stages:
    """Runs stages in a working folder; each resumes where it was interrupted."""

    def __init__(self, recipe: Recipe, work: Path, device: torch.device, say: Say) -> None:
        self.recipe = recipe
        self.work = work
        self.device = device
        self.say = say

    def run(self, stage: str) -> None:
        """Run one of :data:`STAGES`, unless it is finished."""
        getattr(self, f"_{stage}")()

    def trained(self) -> Trained:
        """Load what the stages left."""
        encoder, generator = self.encoder_and_generator()
        attributes, statistics = self.attribute_net()
        return Trained(
            generator=generator,
            encoder=encoder,
            net=load_cdfnet(self.recipe.cdfnet, self.work / "cdfnet"),
            recognizers=self.recognizer_nets(),
            attributes=attributes,
            attribute_statistics=statistics,
            clip=self.clip_meaning(torch.device("cpu")),
        )

    def clip_meaning(self, device: torch.device) -> ClipMeaning:
        """The trained CLIP model, frozen."""
        return ClipMeaning(self.work / "clip", device)

    def attribute_net(self) -> tuple[FaceBackbone, tuple[Tensor, Tensor]]:
        """The attribute net, frozen, with mean and deviation of its labels."""
        state = torch.load(self.work / "attributes" / "state.pt", weights_only=True)["payload"]
        net = FaceBackbone(self.recipe.attributes.model)
        net.load_state_dict(state["net"])
        return net.requires_grad_(False).eval(), (state["mean"], state["deviation"])

    def recognizer_nets(self) -> dict[str, Recognizer]:
        """The recognizers by role, frozen."""
        return {
            r.role: load_recognizer(r, self.work / f"recognizer_{r.role}")
            for r in self.recipe.recognizers
        }

    def _is_done(self, name: str) -> bool:
        return Run(self.work / name, name, 0, "", self.say).done

    def _portraits(self) -> PictureSet:
        return picture_set(
            self.work / "data" / "portraits.pt",
            self.recipe.autoencoder.generator.resolution,
            self.recipe.portraits_seed,
            self.say,
            people=self.recipe.portraits,
        )

    def teacher(self) -> FaceBackbone:
        """The recognizer that takes part in losses."""
        first = self.recipe.recognizers[0]
        # The losses compare its maps of the whole picture (Recipe.__post_init__).
        return cast(FaceBackbone, load_recognizer(first, self.work / f"recognizer_{first.role}"))

    def _pair(self) -> tuple[E4EEncoder, StyleGAN2Generator]:
        """The encoder as the autoencoder left it, and the finished generator."""
        encoder, generator = self._autoencoded()
        return encoder, load_mapping(generator, self.work / "mapping")

    def _autoencoded(self) -> tuple[E4EEncoder, StyleGAN2Generator]:
        return load_autoencoder(self.recipe.refinement, self.work / "refinement")

    def encoder_and_generator(self) -> tuple[E4EEncoder, StyleGAN2Generator]:
        """The finished pair, frozen."""
        encoder, generator = self._pair()
        return load_encoder(encoder, self.work / "encoder"), generator

    def _recognizers(self) -> None:
        for recipe in self.recipe.recognizers:
            if self._is_done(f"recognizer_{recipe.role}"):
                continue
            data = picture_set(
                self.work / "data" / f"people_{recipe.role}.pt",
                recipe.model.input_size,
                recipe.seed,
                self.say,
                people=recipe.people,
                pictures=recipe.pictures,
            )
            folder = self.work / f"recognizer_{recipe.role}"
            train_recognizer(recipe, data, folder, self.device, self.say)

    def _attributes(self) -> None:
        if not self._is_done("attributes"):
            folder = self.work / "attributes"
            train_attributes(
                self.recipe.attributes, self._portraits(), folder, self.device, self.say
            )

    def _clip(self) -> None:
        if not self._is_done("clip"):
            folder = self.work / "clip"
            train_clip(self.recipe.clip, self._portraits(), folder, self.device, self.say)

    def _autoencoder(self) -> None:
        self._autoencode("autoencoder", self.recipe.autoencoder)

    def _refinement(self) -> None:
        self._autoencode("refinement", self.recipe.refinement, self.work / "autoencoder")

    def _autoencode(self, name: str, recipe: AutoencoderRecipe, start: Path | None = None) -> None:
        if not self._is_done(name):
            train_autoencoder(
                recipe,
                self._portraits(),
                self.teacher(),
                self.clip_meaning(self.device),
                self.work / name,
                self.device,
                self.say,
                start,
            )

    def _mapping(self) -> None:
        if not self._is_done("mapping"):
            encoder, generator = self._autoencoded()
            train_mapping(
                self.recipe.mapping,
                encoder,
                generator,
                self._portraits(),
                self.recipe.portraits_seed,
                self.work / "mapping",
                self.device,
                self.say,
            )

    def _encoder(self) -> None:
        if not self._is_done("encoder"):
            encoder, generator = self._pair()
            train_encoder(
                self.recipe.encoder,
                encoder,
                generator,
                self.teacher(),
                self.clip_meaning(self.device),
                self._portraits(),
                self.work / "encoder",
                self.device,
                self.say,
            )

    def _cdfnet(self) -> None:
        if not self._is_done("cdfnet"):
            train_demo_cdfnet(
                self.recipe.cdfnet,
                self._pair()[1],
                self.teacher(),
                self.clip_meaning(self.device),
                self.work / "cdfnet",
                self.device,
                self.say,
            )
