"""What one anonymization of a video is asked to do, beside what it does to each picture."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lreorg_fast.errors import ConfigError
from lreorg_fast.faces.tracking import TrackingSettings
from lreorg_fast.media.encoding import EncoderSettings
from lreorg_fast.media.muxing import StreamPolicy
from lreorg_fast.media.video import VideoLimits
from lreorg_fast.time_limit import DEFAULT_SECONDS, TimeLimit


@dataclass(frozen=True)
class VideoSettings:
    """Settings of :func:`lreorg_fast.video.anonymize_video`.

    Args:
        tracking: how faces are followed; None takes the threshold of the pictures, and collects
            detections from half of it on.
        encoder: codec and quality.
        streams: what becomes of sound, subtitles and data.
        limits: what is decoded at most.
        hwaccel: device type that decodes, for example ``cuda``; None is the CPU.
        segment_frames: so many frames are lost at most when a run is interrupted, 8 to 100000.
        face_timeout: seconds for one look for faces, and for each face of a frame, after which the
            frame is blanked or its faces are filled; 0 is no limit.
        latent_cutoff: in Hz, of the smoothing of latents of a face that rests; 0 is none. 1.5 Hz
            lets a change of expression through within about 0.1 s.
    """

    tracking: TrackingSettings | None = None
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    streams: StreamPolicy = field(default_factory=StreamPolicy)
    limits: VideoLimits = field(default_factory=VideoLimits)
    hwaccel: str | None = None
    segment_frames: int = 240
    latent_cutoff: float = 1.5
    face_timeout: float = DEFAULT_SECONDS

    def __post_init__(self) -> None:
        if not 8 <= self.segment_frames <= 100_000:
            raise ConfigError(
                f"segment_frames is {self.segment_frames}, but must be 8 to 100000 frames"
            )
        if not 0 <= self.latent_cutoff <= 100:
            raise ConfigError(f"latent_cutoff is {self.latent_cutoff}, but must be 0 to 100 Hz")

        TimeLimit(self.face_timeout)

    def deciding(self) -> VideoSettings:
        """Without what changes no result: a run may go on elsewhere, and with more patience."""
        return replace(self, hwaccel=None, face_timeout=0)

    def tracked(self, threshold: float) -> TrackingSettings:
        """The settings of the tracker, for pictures with this threshold."""
        if self.tracking is not None:
            return self.tracking
        return TrackingSettings(threshold=threshold, low_threshold=threshold / 2)
