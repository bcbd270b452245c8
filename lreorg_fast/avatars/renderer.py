"""Flat-shaded portraits drawn with signed-distance shapes, batched in torch, any size.

The head is drawn in head coordinates (pose removed), the inner features in face coordinates
(yaw slides them over the head), back to front: background, back hair, body, ears, face, beard,
age lines, eyes, brows, nose, mouth, front hair, glasses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lreorg_fast.avatars.landmarks import ZOOM, features, pose
from lreorg_fast.avatars.shapes import Canvas, ellipse, ramp, soft, stroke
from lreorg_fast.avatars.traits import IDENTITY_TRAITS, NUISANCE_DIM, Avatars

_HAIR = torch.tensor(
    [[0.09, 0.08, 0.10], [0.30, 0.18, 0.10], [0.62, 0.25, 0.10], [0.92, 0.76, 0.4]]
)
_SKIN = torch.tensor(
    [
        [0.99, 0.86, 0.76],
        [0.95, 0.77, 0.62],
        [0.83, 0.62, 0.45],
        [0.62, 0.42, 0.29],
        [0.42, 0.27, 0.19],
    ]
)
_IRIS = torch.tensor([[0.25, 0.5, 0.8], [0.3, 0.58, 0.38], [0.52, 0.36, 0.16], [0.22, 0.13, 0.08]])
# Chunks of about this many pixels stay in the cache: three times faster than one large batch.
_PIXELS_PER_CHUNK = 32 * 64 * 64


def render(avatars: Avatars, size: int = 64) -> Tensor:
    """Portraits ``(N, 3, size, size)``, float32 in [0, 1]; a pure function of its input."""
    chunk = max(1, _PIXELS_PER_CHUNK // size**2)
    parts = [_Portrait(avatars[i : i + chunk], size).draw() for i in range(0, len(avatars), chunk)]
    return torch.cat(parts)


def _hue(position: Tensor) -> Tensor:
    phase = torch.tensor([0.0, 0.33, 0.67])
    return 0.5 + 0.5 * torch.cos(2 * math.pi * (position[:, None] + phase))


def _toward(colour: Tensor, target: tuple[float, float, float], amount: Tensor) -> Tensor:
    return colour + (torch.tensor(target) - colour) * amount


class _Portrait:
    """One chunk of avatars while it is being drawn."""

    def __init__(self, avatars: Avatars, size: int) -> None:
        self.size = size
        self.count = len(avatars)
        self.who = {
            name: avatars.identity[:, i].view(-1, 1, 1) for i, name in enumerate(IDENTITY_TRAITS)
        }
        self.look = {name: value.view(-1, 1, 1) for name, value in avatars.attributes.items()}
        self.noise = [avatars.nuisance[:, i].view(-1, 1, 1) for i in range(NUISANCE_DIM)]
        self.flat = avatars
        self.female = self.look["gender"]
        self.male = 1 - self.female
        self.smile = self.look["expression"].clamp(min=0)
        self.sad = (-self.look["expression"]).clamp(min=0)
        self.old = ((self.look["age"] - 0.35) / 0.65).clamp(0, 1)
        self._coordinates()
        self._colours()

    def draw(self) -> Tensor:
        self.canvas = Canvas(self._background(), 2.0 / self.size * ZOOM * 1.15)
        self._head_shape()
        self._hair_shape()
        self._back_hair()
        self._body()
        self._ears()
        self._face()
        self._cheeks()
        self._beard()
        self._age_lines()
        self._eyes()
        self._brows()
        self._nose()
        self._mouth()
        self._front_hair()
        self._glasses()
        light = 1 + 0.06 * self.noise[14][:, None]
        return (self.canvas.picture * light).clamp(0, 1)

    # ---- set-up

    def _coordinates(self) -> None:
        line = (torch.arange(self.size) + 0.5) * (2.0 / self.size) - 1
        self.frame_x, self.frame_y = line.view(1, 1, -1), line.view(1, -1, 1)
        at = pose(self.noise)
        moved_x, moved_y = self.frame_x - at.shift[0], self.frame_y - 0.02 - at.shift[1]
        cosine, sine = at.rotation
        self.x = (cosine * moved_x + sine * moved_y) * at.scale
        self.y = (-sine * moved_x + cosine * moved_y) * at.scale
        self.face_x = self.x - at.face[0]
        self.face_y = self.y - at.face[1]
        self.side = self.face_x.abs()  # the face is symmetric: features are drawn for both sides
        self.places = features(self.who, self.smile, self.sad)
        self.eye_x, self.eye_y = self.places.eye_x, self.places.eye_y
        self.mouth_y = self.places.mouth_y

    def _colours(self) -> None:
        who, look = self.flat.identity, self.flat.attributes
        skin = ramp(_SKIN, (who[:, 4] + 1) / 2)
        skin = skin + who[:, 5:6] * torch.tensor([0.02, -0.01, -0.035])
        age = look["age"][:, None]
        pale = torch.tensor([0.80, 0.70, 0.62]) * (skin.mean(1, keepdim=True) + 0.15)
        self.skin = skin * (1 - 0.12 * age) + 0.12 * age * pale
        self.dark = self.skin * torch.tensor([0.70, 0.62, 0.58])
        self.light = 1 - (1 - self.skin) * 0.75
        self.hair = _toward(ramp(_HAIR, look["color"]), (0.78, 0.78, 0.80), look["gray"][:, None])
        self.hair_dark = self.hair * 0.62
        self.iris = ramp(_IRIS, (who[:, 9] + 1) / 2)

    def _constant(self, red: float, green: float, blue: float) -> Tensor:
        return torch.tensor([red, green, blue]).expand(self.count, 3)

    # ---- what surrounds the face

    def _background(self) -> Tensor:
        flat, n = self.flat.nuisance, self.noise
        top = (0.45 + 0.30 * _hue(flat[:, 6] * 0.5) + 0.15 * flat[:, 7:8])[:, :, None, None]
        blend = (self.frame_y + 1) / 2 * (0.8 + 0.2 * n[10]) + 0.15 * self.frame_x * n[11]
        return top * (1 - 0.28 * blend.clamp(0, 1)[:, None])

    def _head_shape(self) -> None:
        who = self.who
        self.head_w = 0.495 + 0.045 * who["head_width"] + 0.035 * self.male
        height = 0.64 + 0.05 * who["head_height"]
        jaw = who["jaw"] * 0.55 + (self.male - self.female) * 0.60
        taper = 1 + (0.20 - 0.12 * jaw) * (self.y / height).clamp(min=0) ** 1.5
        across = (self.x * taper).abs() / self.head_w
        lower = height * (1.0 + 0.05 * who["chin"] + 0.02 * self.male)
        along = self.y / torch.where(self.y > 0, lower, height)
        power = torch.where(along > 0, 2.15 + 0.35 * jaw, 2.1)
        self.radial = (across**power + along.abs() ** power + 1e-9) ** (1 / power)
        self.head = (self.radial - 1) * self.head_w * 0.98
        self.vertical = self.y / height

    def _hair_shape(self) -> None:
        x, y = self.x, self.y
        curly, length = self.look["curly"], self.look["length"]
        self.has_hair = ((length - 0.08) * 20).clamp(0, 1)
        self.longness = ((length - 0.40) / 0.60).clamp(0, 1)
        angle = torch.atan2(x, -(y + 0.12))
        scallop = (1 - (angle * 7).sin().abs()) * 0.075 * curly
        volume = 0.045 + 0.10 * curly + 0.03 * self.female + 0.05 * self.longness
        crown_h = 0.56 + volume + 0.05 * self.who["head_height"]
        self.crown = ellipse(x, y + 0.10, self.head_w + volume, crown_h) + scallop
        bottom = 0.10 + 0.95 * self.longness
        self.wave = 0.05 * curly * (y * 14 + x.sign() * 0.7).sin() + 0.012 * (y * 5).sin()
        half = self.head_w + volume + 0.04 + 0.10 * self.longness * (y + 0.1).clamp(0, 1)
        tips = y - bottom + 0.10 * (x.abs() - 0.5) + 0.02 * (x * 18).sin() * (1 - curly)
        fall = torch.maximum(x.abs() + self.wave - half, torch.maximum(-0.10 - y, tips))
        self.fall = torch.where(self.longness > 0.02, fall, torch.ones_like(fall))
        self.hair_bottom = bottom
        self.hair_texture = self._texture()

    def _texture(self) -> Tensor:
        """Soft strands; curls are broad waves, since fine checks are lost on small pictures."""
        x, y, curly = self.x, self.y, self.look["curly"]
        strands = 0.5 + 0.5 * ((x + 0.25 * y * x) * 26).sin()
        curls = 0.5 + 0.5 * (x * 15 + 1.5 * (y * 12).sin()).sin() * (y * 15).cos()
        pattern = 0.35 * torch.where(curly > 0.3, 1.4 * curls, strands)
        shine = 0.25 * (1 - (y + 0.3).abs()).clamp(0, 1)
        dark, bright = self.hair_dark, (self.hair * 1.15 + 0.06).clamp(max=1)
        mix = (pattern + shine + 0.15)[:, None]
        return dark[:, :, None, None] + (bright - dark)[:, :, None, None] * mix

    def _back_hair(self) -> None:
        alpha = self.canvas.coverage(torch.minimum(self.crown, self.fall)) * self.has_hair
        above = (self.y < self.hair_bottom + 0.2).float()
        self.canvas.paint(self.hair_texture * 0.82, alpha * above)

    def _body(self) -> None:
        c, x, y = self.canvas, self.x, self.y
        flat = self.flat.nuisance
        shirt = 0.18 + 0.55 * _hue(flat[:, 8] * 0.5) * (0.6 + 0.4 * flat[:, 9:10].abs())
        c.fill(self.dark, torch.maximum(x.abs() - (0.20 + 0.07 * self.male), 0.35 - y))
        c.fill(shirt, ellipse(x, y - 1.28, 0.84 + 0.14 * self.male, 0.50))
        c.fill(self.skin * 0.9, ellipse(x, y - 0.80, 0.20, 0.16))
        inner = (0.40 + 0.04 * self.longness) - x.abs() - self.wave
        alpha = c.coverage(torch.maximum(self.fall, inner)) * self.has_hair
        c.paint(self.hair_texture * 0.92, alpha * (self.longness > 0.3).float())

    def _ears(self) -> None:
        radius = 0.085 + 0.025 * self.who["ears"]
        ear = ellipse(
            self.x.abs() - self.head_w * 0.985, self.y - 0.02, radius * 0.75, radius * 1.35
        )
        self.canvas.fill(self.skin * 0.92, ear)
        self.canvas.fill(self.dark, ear + 0.045)

    # ---- the face

    def _face(self) -> None:
        light = 0.055 * self.noise[12] * self.x / self.head_w
        shade = light + 0.05 * self.vertical + 0.10 * (self.radial - 0.55).clamp(min=0)
        shaded = self.skin[:, :, None, None] * (1 - 1.1 * shade.clamp(-0.15, 0.25)[:, None])
        self.inside = self.canvas.coverage(self.head)
        self.canvas.paint(shaded, self.inside)

    def _cheeks(self) -> None:
        cheek = soft(
            ellipse(self.side - 0.27, self.face_y - 0.17 + 0.02 * self.smile, 0.13, 0.09), 0.1
        )
        strength = 0.10 + 0.62 * self.look["makeup"] + 0.12 * self.smile + 0.10 * self.female
        self.canvas.paint(
            self.skin * torch.tensor([1.0, 0.70, 0.66]), cheek * strength * self.inside
        )

    def _beard(self) -> None:
        c, beard = self.canvas, self.look["beard"]
        arch = 1 - (self.side / 0.46).clamp(max=1) ** 2
        region = torch.maximum(self.head, 0.16 + 0.165 * arch - self.face_y)
        c.paint(self.skin * 0.60, soft(region, 0.10) * self.male.square() * 0.34 * self.inside)
        c.paint(self.hair_dark * 0.95, c.coverage(region + 0.01) * self.inside * beard * 0.92)
        width = 0.15 + 0.02 * self.who["mouth_width"]
        c.fill(
            self.hair_dark * 0.95,
            ellipse(self.face_x, self.face_y - self.mouth_y + 0.075, width, 0.045),
            beard * 0.92,
        )

    def _age_lines(self) -> None:
        c, old, x, y = self.canvas, self.old, self.face_x, self.face_y
        for row, height in enumerate((-0.36, -0.29, -0.22)):
            reach = 0.24 - 0.03 * row
            curve = height + 0.02 * (x * 9).cos() - 0.015 * row
            line = stroke(x, y, curve, -reach, reach, 0.009)
            c.fill(self.dark * 0.9, line, (old * 3 - row * 0.55).clamp(0, 1) * 0.8 * self.inside)
        fold = stroke(
            y, self.side, 0.125 + 0.30 * (y - 0.16), 0.16, self.mouth_y + 0.03, 0.010, slope=0.30
        )
        strength = (old * 0.9 + 0.22 * self.smile).clamp(max=1)
        shown = strength * self.inside * (1 - 0.5 * self.look["beard"])
        c.fill(self.dark * 0.92, fold, shown)
        outer = self.side - self.eye_x - 0.135
        for bend in (-1.0, 0.0, 1.0):
            curve = bend * 0.05 + bend * 0.35 * outer
            crow = stroke(outer, y - self.eye_y, curve, 0.0, 0.075, 0.007)
            c.fill(self.dark * 0.9, crow, old * 0.85 * self.inside)

    def _eyes(self) -> None:
        c, who, makeup = self.canvas, self.who, self.look["makeup"]
        size = 1 + 0.16 * who["eye_size"] + 0.12 * self.female - 0.10 * self.old
        width = 0.108 * size
        height = 0.068 * size * (1 - 0.30 * self.smile + 0.05 * self.sad)
        x = self.side - self.eye_x
        y = self.face_y - self.eye_y + (0.10 * who["eye_tilt"] + 0.06 * self.female) * x
        bag = stroke(x, y, height + 0.035 - 3.0 * x.square(), -0.08, 0.08, 0.010)
        c.fill(self.dark, bag, self.old * 0.9 * self.inside)
        shadow = soft(ellipse(x, y + 0.055, width * 1.20, 0.075), 0.045)
        shadow_colour = 0.35 * self.skin + 0.65 * torch.tensor([0.48, 0.26, 0.60])
        c.paint(shadow_colour, shadow * makeup * 0.95 * self.inside)
        white = c.coverage(ellipse(x, y, width, height))
        c.paint(self._constant(0.97, 0.97, 0.97), white)
        gaze = (x - 0.024 * self.face_x.sign() * self.noise[4]).square() + y.square()
        radius = 0.058 * (1 + 0.06 * who["eye_size"])
        distance = (gaze + 1e-9).sqrt()
        c.paint(self.iris, c.coverage(distance - radius) * white)
        c.paint(self._constant(0.04, 0.03, 0.03), c.coverage(distance - radius * 0.5) * white)
        arc = (1 - (x / width).clamp(-1, 1).square()).clamp(min=0).sqrt()
        reach = width * (1 + 0.25 * self.female + 0.14 * makeup)
        lash = 0.008 + 0.012 * self.female + 0.012 * makeup
        lid = stroke(x, y, -height * arc, -width, reach, lash)
        c.fill(self._constant(0.10, 0.07, 0.07), lid, 0.55 + 0.45 * self.female)

    def _brows(self) -> None:
        who = self.who
        x = self.side - self.eye_x
        height = self.eye_y - 0.150 - 0.022 * who["brow_height"] - 0.030 * self.female
        slope = 0.25 * self.sad - 0.10 * who["brow_tilt"] - 0.05
        curve = height - 0.02 * self.smile + (1.2 + 0.9 * self.female) * x.square() + slope * x
        thick = 0.019 + 0.009 * who["brow_thickness"] + 0.016 * self.male
        brow = stroke(x, self.face_y, curve, -0.115, 0.125, thick)
        self.canvas.fill(0.75 * self.hair_dark + 0.25 * self.dark, brow)

    def _nose(self) -> None:
        c, who, x, y = self.canvas, self.who, self.face_x, self.face_y
        tip = self.places.nose_y
        width = 0.070 + 0.020 * who["nose_width"] + 0.014 * self.male
        bridge = x - 0.012 * self.noise[12]
        side = stroke(y, bridge, 0.035 + 0.02 * (y / tip), self.eye_y + 0.03, tip - 0.03, 0.012)
        c.fill(self.dark, side, 0.40)
        c.fill(self.skin * 0.93, ellipse(x, y - tip, width, 0.048), 0.9)
        under = stroke(x, y, tip + 0.045 - 2.2 * x.square(), -width, width, 0.010)
        c.fill(self.dark * 0.85, under, 0.9)
        c.paint(self.light, soft(ellipse(x, y - tip + 0.03, 0.025, 0.05), 0.03) * 0.7)

    def _mouth(self) -> None:
        c, who, x, y = self.canvas, self.who, self.face_x, self.face_y
        makeup, flat = self.look["makeup"], self.flat.attributes
        width = self.places.mouth_width
        u = (x / width).clamp(-1, 1)
        curve = self.places.mouth_bend * (u.square() - 0.35)
        middle = self.mouth_y + 0.02 * self.smile - curve
        bare = self.skin * torch.tensor([0.86, 0.55, 0.52])
        red = (flat["makeup"] * 0.92 + 0.22 * flat["gender"]).clamp(max=1)[:, None]
        colour = _toward(bare, (0.80, 0.06, 0.16), red)
        full = 0.034 + 0.010 * who["lips"] + 0.012 * self.female + 0.006 * makeup
        full = full * (1 - 0.18 * self.look["age"])
        arc = (1 - u.square()).clamp(min=0).sqrt()
        gape = (self.smile - 0.35).clamp(min=0) * 0.105
        centre = (y - middle - gape * 0.5 * arc).abs()
        c.fill(colour, torch.maximum(centre - (full + gape * 0.5) * arc, self.side - width))
        teeth = torch.maximum(centre - gape * 0.52 * arc, self.side - width * 0.92)
        c.fill(self._constant(0.98, 0.97, 0.95), teeth, (gape > 0.002).float())
        line = stroke(x, y, middle, -width, width, 0.009)
        c.fill(colour * 0.45, line, 1 - (gape * 30).clamp(max=1))

    # ---- over the face

    def _front_hair(self) -> None:
        x, y, curly = self.x, self.y, self.look["curly"]
        receding = 0.13 * self.old * self.male
        line = -0.41 + 0.07 * self.female - receding + 0.02 * self.who["head_height"]
        line = line - 0.05 * (1 - self.look["length"]) * self.male
        parting = 0.10 * self.noise[13].sign() * (self.face_x * 1.6).sin()
        edge = line + parting + 0.55 * self.face_x.square() * (1 + 0.5 * self.female)
        front = torch.maximum(self.crown, y - edge - 0.030 * curly * (x * 24).sin())
        inner = self.head_w * (0.90 - 0.02 * self.female) - self.side
        temple = torch.maximum(inner, y - (-0.02 + 0.22 * self.longness))
        shape = torch.minimum(front, torch.maximum(self.crown, temple))
        self.canvas.fill(self.hair_texture, shape, self.has_hair)

    def _glasses(self) -> None:
        x, y = self.side - self.eye_x, self.face_y - self.eye_y
        ring = ellipse(x, y - 0.005, 0.165, 0.125).abs() - 0.014
        zero = torch.zeros_like(y)
        bridge = stroke(self.face_x, y, zero - 0.01, -0.05, 0.05, 0.014)
        arm = stroke(self.side, y, zero - 0.02, self.eye_x + 0.16, self.head_w, 0.014)
        frame = torch.minimum(torch.minimum(ring, bridge), arm)
        self.canvas.fill(self._constant(0.12, 0.12, 0.16), frame, self.look["glasses"])
