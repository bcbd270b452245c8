"""What a weights file is, told from the names inside it, and which loader takes it.

One table for all loaders: a file that one of them refuses is named for what it is. Names are
those of the public files, wherever a trainer put the state dict and whatever it put in front.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lreorg_fast.errors import CheckpointError
from lreorg_fast.weights.checkpoint import Checkpoint, PersistentObject, TensorRef
from lreorg_fast.weights.manifest import MANIFEST_NAME

ARCHITECTURE = "lreorg.architecture"  # in the header of our own safetensors

_DEEPEST = 4  # mappings around a state dict; trainers use two
_MOST_NAMES = 20_000
_NAMES_IN_MESSAGES = 5


@dataclass(frozen=True)
class FileKind:
    """One kind of file.

    Args:
        title: what it is called, with its article.
        loaders: those of lf.weights that take it, or take a part of it.
        markers: regular expressions; each must be found in some dotted name of the file.
        absent: none of these may be found.
        advice: what to do instead, where no loader takes it.
    """

    title: str
    loaders: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    advice: str = "nothing here takes such a file"

    @property
    def remedy(self) -> str:
        """What to do with such a file."""
        if not self.loaders:
            return self.advice
        return "load it with " + " or ".join(f"lf.weights.{loader}" for loader in self.loaders)


_GENERATOR, _ENCODER, _IDENTITY = ("load_generator",), ("load_encoder",), ("load_identity",)

# First match wins: a checkpoint comes before the parts that it contains.
KINDS: tuple[FileKind, ...] = (
    FileKind(
        "an e4e checkpoint",
        (*_ENCODER, *_GENERATOR),
        (r"(^|\.)encoder\.styles\.0\.linear\.weight$", r"(^|\.)decoder\.input\.input$"),
        (r"(^|\.)encoder\.style_0\.",),
    ),
    FileKind("an e4e encoder", _ENCODER, (r"(^|\.)styles\.0\.linear\.weight$", r"latlayer1")),
    FileKind("a pSp encoder of another structure", (), (r"(^|\.)styles\.0\.",)),
    FileKind(
        "a StyleGAN2 generator in rosinality's layout",
        _GENERATOR,
        (r"(^|\.)input\.input$", r"(^|\.)conv1\.conv\.weight$"),
    ),
    FileKind("an NVlabs network pickle", _GENERATOR, (r"^(G|G_ema|D|augment_pipe):\w+$",)),
    FileKind(
        "an NVlabs state dict without its settings",
        (),
        (r"(^|\.)synthesis\.b4\.const$",),
        advice="give the .pkl file that it came from to lf.weights.load_generator",
    ),
    FileKind(
        "a StyleGAN2 discriminator",
        (),
        (r"(^|\.)final_linear\.\d+\.weight$", r"(^|\.)final_conv\.0\.weight$"),
    ),
    FileKind(
        "an IR-SE50 identity network (TreB1eN)",
        _IDENTITY,
        (r"(^|\.)body\.0\.res_layer\.5\.fc1\.weight$",),
    ),
    FileKind(
        "an AdaFace identity network",
        _IDENTITY,
        (r"(^|\.)body\.0\.res_layer\.(se_block\.fc1\.weight|5\.running_mean)$",),
    ),
    FileKind(
        "an insightface iresnet identity network",
        _IDENTITY,
        (r"(^|\.)layer1\.0\.prelu\.weight$",),
    ),
    FileKind(
        "a CLIP model",
        ("load_clip",),
        (r"(^|\.)text_projection$", r"(^|\.)visual\.", r"(^|\.)token_embedding\.weight$"),
    ),
    FileKind(
        "the Inception network of FID",
        ("load_inception",),
        (r"(^|\.)Mixed_7c\.branch_pool\.conv\.weight$", r"(^|\.)Conv2d_1a_3x3\.conv\.weight$"),
    ),
    FileKind("a VGG-Face network", ("load_vgg_face",), (r"(^|\.)conv_?5_3\.weight$",)),
    FileKind(
        "a CDFNet",
        ("load_cdfnet",),
        (r"(^|\.)blocks\.0\.cond\.add\.latent\.weight$",),
    ),
    FileKind("a HiNet checkpoint", (), (r"(^|\.)inv1\.r\.conv1\.weight$",)),
)

_OWN: Mapping[str, tuple[str, ...]] = {
    "stylegan2": _GENERATOR,
    "e4e": _ENCODER,
    "face-backbone": _IDENTITY,
    "iresnet": _IDENTITY,
    "adaface": _IDENTITY,
    "cdfnet": ("load_cdfnet",),
}


def describe(checkpoint: Checkpoint) -> FileKind | None:
    """The kind of an opened file, or None where nothing known is found in it."""
    if ARCHITECTURE in checkpoint.metadata:
        name = checkpoint.metadata[ARCHITECTURE]
        return FileKind(
            f"a network file of this package ('{name:.40}')",
            _OWN.get(name, ()),
            advice="update lreorg_fast, this version does not build it",
        )
    if checkpoint.kind == "safetensors" and (checkpoint.path.parent / MANIFEST_NAME).is_file():
        folder = checkpoint.path.parent
        advice = f"give the folder '{folder}' to lf.Anonymizer.load"
        return FileKind("a part of a bundle", advice=advice)
    found = list(islice(_walk(checkpoint.content, "", _DEEPEST), _MOST_NAMES))
    return next((kind for kind in KINDS if _fits(kind, found)), None)


def wrong_kind(checkpoint: Checkpoint, wanted: str) -> CheckpointError:
    """The error for a file that a loader does not take.

    Args:
        checkpoint: the opened file.
        wanted: what the loader takes, with its article: ``"an identity network"``.
    """
    kind = describe(checkpoint)
    if kind is not None:
        return CheckpointError(f"'{checkpoint.path}' is {kind.title}, not {wanted}; {kind.remedy}")
    names = list(islice(_walk(checkpoint.content, "", _DEEPEST), _NAMES_IN_MESSAGES))
    inside = f"its first names are {', '.join(names)}" if names else "it holds no named tensors"
    return CheckpointError(
        f"'{checkpoint.path}' ({checkpoint.kind}) is not {wanted}, nor any other file known here: "
        f"{inside:.400}; give the file as its authors published it"
    )


def _fits(kind: FileKind, names: list[str]) -> bool:
    def found(pattern: str) -> bool:
        search = re.compile(pattern).search
        return any(search(name) for name in names)

    return all(map(found, kind.markers)) and not any(map(found, kind.absent))


def _walk(tree: Any, path: str, depth: int) -> Iterator[str]:
    """Dotted names of the tensors, and ``name:Class`` of NVlabs networks."""
    if not isinstance(tree, Mapping) or depth == 0:
        return
    for key, value in tree.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, TensorRef):
            yield name
        elif isinstance(value, PersistentObject):
            yield f"{name}:{value.class_name.rpartition('.')[2]}"
        else:
            yield from _walk(value, name, depth - 1)
