"""Methods that need no network: cover every head, in one colour or with a mosaic."""

from __future__ import annotations

from collections.abc import Sequence

from lreorg_fast.faces.blending import fill_layer, pixelate_layer
from lreorg_fast.faces.regions import head_shapes
from lreorg_fast.media.pictures import Picture
from lreorg_fast.scene.faces import KnownFace, Made, SceneStatus


class Fill:
    """A solid colour over every head, asked for: no reason has to be given."""

    status: SceneStatus = "filled"

    def make(self, picture: Picture, faces: Sequence[KnownFace]) -> list[Made]:
        return [Made(fill_layer(picture, head_shapes(face.detection))) for face in faces]

    def doubts(
        self, source: Picture, made: Picture, faces: Sequence[KnownFace]
    ) -> list[str | None]:
        return [None] * len(faces)


class Pixelate(Fill):
    """A mosaic over every head."""

    status: SceneStatus = "pixelated"

    def make(self, picture: Picture, faces: Sequence[KnownFace]) -> list[Made]:
        return [Made(pixelate_layer(picture, head_shapes(face.detection))) for face in faces]
