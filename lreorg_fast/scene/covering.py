"""Methods that need no network: cover every head, in one colour or with a mosaic."""

from __future__ import annotations

from collections.abc import Sequence

from lreorg_fast.faces.regions import head_shapes
from lreorg_fast.scene.canvas import Canvas
from lreorg_fast.scene.faces import KnownFace, Made, SceneStatus


class Fill:
    """A solid colour over every head, asked for: no reason has to be given."""

    status: SceneStatus = "filled"

    def make(self, canvas: Canvas, faces: Sequence[KnownFace]) -> list[Made]:
        """See :class:`lreorg_fast.scene.faces.FaceMaker`."""
        return [Made(canvas.fill(head_shapes(face.detection))) for face in faces]

    def doubts(self, source: Canvas, finished: Canvas, made: Sequence[Made]) -> list[str | None]:
        """None: what is covered is covered."""
        return [None] * len(made)


class Pixelate(Fill):
    """A mosaic over every head."""

    status: SceneStatus = "pixelated"

    def make(self, canvas: Canvas, faces: Sequence[KnownFace]) -> list[Made]:
        """See :class:`lreorg_fast.scene.faces.FaceMaker`."""
        return [Made(canvas.pixelate(head_shapes(face.detection))) for face in faces]
