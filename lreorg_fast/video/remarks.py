"""What a user is told of a video: once, or instead of a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lreorg_fast.errors import VideoError
from lreorg_fast.log import once
from lreorg_fast.media.encoding import Encoding
from lreorg_fast.media.muxing import StreamPolicy
from lreorg_fast.media.video import VideoInfo
from lreorg_fast.video.editing import Notes
from lreorg_fast.weights import BundleManifest


def warn(info: VideoInfo, streams: StreamPolicy, encoding: Encoding) -> None:
    """What is not as somebody may expect."""
    if any(stream.kind == "audio" and streams.keeps(stream) for stream in info.others):
        once("video-voice", "the sound is kept: a voice identifies; --audio drop removes it")
    if info.interlaced:
        once("video-fields", "the video is interlaced; it is encoded as whole frames")
    if info.codec != encoding.encoder.codec:
        once(
            f"video-codec-{info.codec}",
            f"the video is {info.codec} and is encoded as {encoding.encoder.codec}",
        )


def refuse_other_domain(source: Path, bundle: BundleManifest, notes: Sequence[Notes]) -> None:
    """Rather no result than a video of gray heads that was made with the wrong bundle.

    Raises:
        VideoError: no face so far was replaced, and all are of another kind than the bundle's.
    """
    from lreorg_fast.verification import OUT_OF_DOMAIN  # torch

    if any(counts["replaced"] for made in notes for counts in made.faces.values()):
        return
    reasons = {reason for made in notes for counts in made.reasons.values() for reason in counts}
    if reasons and reasons <= set(OUT_OF_DOMAIN):
        raise VideoError(
            f"no face of '{source}' so far is of the kind of the bundle '{bundle.name}' "
            f"({bundle.domain.kind}); use a bundle for such faces, or the method 'avatar', "
            "'fill' or 'pixelate'"
        )
