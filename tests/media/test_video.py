"""Containers: what comes in is what the file says, and what goes out keeps it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import CANARY, NTSC, ClipFormat, write_clip
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.errors import ConfigError, VideoError
from lreorg_fast.media.encoding import ENCODERS, EncoderSettings, Encoding, samples
from lreorg_fast.media.muxing import (
    StreamPolicy,
    check_target_container,
    check_written,
    muxer_of,
    write_video,
)
from lreorg_fast.media.orientation import Orientation
from lreorg_fast.media.segments import Segment, SegmentEncoder
from lreorg_fast.media.video import VideoLimits, VideoReader, container_of, open_container

WIDTH, HEIGHT = 64, 48


def pictures(count: int = 12, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """Soft colours that move: what survives an encoder."""
    y, x = np.mgrid[:height, :width] / 16
    return [
        np.stack([127 + 90 * np.sin(x + i / 5 + k) * np.cos(y - i / 7) for k in range(3)], axis=2)
        .round()
        .astype(np.uint8)
        for i in range(count)
    ]


def encode(
    source: VideoReader, folder: Path, encoding: Encoding, cuts: Iterable[int] = ()
) -> tuple[list[Segment], np.ndarray, np.ndarray]:
    """Every frame as it is, in segments that end before the frames ``cuts``."""
    segments, times, durations = [], [], []
    bounds = [0, *cuts, 1 << 30]
    frames = list(source.frames())
    for number, (start, end) in enumerate(itertools.pairwise(bounds)):
        path = folder / f"segment{number}"
        with path.open("wb") as stream:
            encoder = SegmentEncoder(encoding, stream)
            for frame in frames[start:end]:
                picture = frame.picture(source.info.orientation)
                encoder.add(encoding.frame(frame, picture, picture))
                times.append(frame.pts)
                durations.append(frame.duration)
            segments.append(encoder.finish(path)[0])
    return segments, np.array(times), np.array(durations)


def copied(
    path: Path,
    target: Path,
    settings: EncoderSettings | None = None,
    policy: StreamPolicy | None = None,
    cuts: Iterable[int] = (5,),
) -> VideoReader:
    """The way of a video with no face in it."""
    source = VideoReader(path)
    encoding = Encoding(source.info, settings)
    segments, times, durations = encode(source, target.parent, encoding, cuts)
    with target.open("wb") as stream:
        write_video(stream, target, source, encoding, segments, durations, policy or StreamPolicy())
    check_written(target, source, segments, times)
    return VideoReader(target)


def times(reader: VideoReader) -> list[Fraction]:
    return [frame.pts * reader.info.time_base for frame in reader.frames()]


TAGS = ("color_range", "color_primaries", "color_transfer", "color_space")
# Irregular steps, of a camera that waits for light; in 1/30000 s.
IRREGULAR = (0, 1001, 2002, 6006, 6060, 9000, 15000, 15100, 45000, 46001, 47002, 90000)


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        (".mp4", ClipFormat()),
        (".mp4", ClipFormat(b_frames=2)),
        (".mp4", ClipFormat(ticks=IRREGULAR, b_frames=3)),
        (".mkv", ClipFormat(ticks=IRREGULAR, b_frames=3)),
        (".mov", ClipFormat(rotation=90)),
        (".mp4", ClipFormat(rotation=180)),
        (".mp4", ClipFormat(rotation=270, flip=True)),
        (".mkv", ClipFormat(rotation=90)),
        (".mp4", ClipFormat(pixel_format="yuv420p10le", colour=(1, 9, 16, 9))),
        (".mp4", ClipFormat(pixel_format="yuvj420p", colour=(2, 1, 1, 5))),
        (".mp4", ClipFormat(pixel_format="yuv444p")),
        (".mp4", ClipFormat(aspect=Fraction(4, 3))),
        (".mp4", ClipFormat(codec="libx265", b_frames=2)),
        (".webm", ClipFormat(codec="libvpx-vp9", ticks=IRREGULAR)),
        (".mp4", ClipFormat(codec="libsvtav1")),
        (".mp4", ClipFormat(codec="mpeg4", b_frames=1)),
        (".ts", ClipFormat(b_frames=2)),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_times_rotation_colours_and_depth_are_kept(
    tmp_path: Path, suffix: str, how: ClipFormat
) -> None:
    shown = pictures()
    path = write_clip(tmp_path / f"in{suffix}", shown, how)
    source, made = VideoReader(path), copied(path, tmp_path / f"out{suffix}")
    assert len(times(source)) == len(shown)
    tick = made.info.time_base
    for before, after in zip(times(source), times(made), strict=True):
        assert abs(before - after) <= tick
    for name in (*TAGS, "width", "height", "pixel_format", "sample_aspect", "orientation"):
        assert getattr(made.info, name) == getattr(source.info, name), name
    if how.rate == NTSC and how.ticks is None and suffix == ".mp4":
        assert made.info.rate == NTSC
    for before, after in zip(source.frames(), made.frames(), strict=True):
        a, b = (frame.picture(source.info.orientation).astype(int) for frame in (before, after))
        # Constant quality 18 and less: about one level on soft pictures.
        assert np.abs(a - b).mean() < 3


def test_an_upright_frame_is_what_was_filmed(tmp_path: Path) -> None:
    """A frame that is turned by the display matrix is seen as players show it."""
    (picture, *_) = pictures(1)
    for degrees, quarter in ((0, 0), (90, 1), (180, 2), (270, 3)):
        path = write_clip(tmp_path / f"{degrees}.mp4", [picture], ClipFormat(rotation=degrees))
        reader = VideoReader(path)
        seen = next(reader.frames()).picture(reader.info.orientation)
        assert np.abs(seen.astype(int) - np.rot90(picture, quarter)).mean() < 3
        assert reader.info.size == seen.shape[1::-1]


@given(transpose=st.booleans(), flip_x=st.booleans(), flip_y=st.booleans(), width=st.integers(1, 5))
def test_turning_upright_and_back_is_the_identity(
    transpose: bool, flip_x: bool, flip_y: bool, width: int
) -> None:
    stored = np.random.default_rng(1).integers(0, 256, (3, width, 3), dtype=np.uint8)
    turn = Orientation(transpose, flip_x, flip_y)
    assert np.array_equal(turn.stored(turn.upright(stored)), stored)


def test_a_slanted_picture_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", pictures(2), ClipFormat(rotation=33))
    with pytest.raises(VideoError, match="quarter turns"):
        VideoReader(path)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p", "yuv422p"])
def test_only_edited_pixels_are_converted(tmp_path: Path, pixel_format: str) -> None:
    path = write_clip(
        tmp_path / "in.mp4", pictures(2), ClipFormat(pixel_format=pixel_format, rotation=90)
    )
    reader = VideoReader(path)
    encoding = Encoding(reader.info)
    frame = next(reader.frames())
    picture = frame.picture(reader.info.orientation)
    edited = picture.copy()
    edited[10:20, 5:25] = 200
    kept = [plane.copy() for plane in samples(frame.raw)]
    made = encoding.frame(frame, picture, edited)
    assert made.format.name == pixel_format
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[10:20, 5:25] = 1
    stored = reader.info.orientation.stored(mask)
    for before, after, source in zip(kept, samples(made), samples(frame.raw), strict=True):
        assert np.array_equal(before, source)  # the decoder's own frame is not touched
        down, across = HEIGHT // before.shape[0], WIDTH // before.shape[1]
        inside = stored.reshape(before.shape[0], down, before.shape[1], across).any(axis=(1, 3))
        assert np.array_equal(after[~inside], before[~inside])
    seen = reader.info.orientation.upright(made.to_ndarray(format="rgb24"))
    assert np.abs(seen[13:17, 9:21].astype(int) - 200).max() <= 4


def test_other_streams_follow_the_policy(tmp_path: Path) -> None:
    how = ClipFormat(audio=2, subtitles=True, data=True)
    path = write_clip(tmp_path / "in.mp4", pictures(), how)

    def kinds(policy: StreamPolicy, name: str) -> list[str]:
        made = copied(path, tmp_path / name, policy=policy)
        return sorted(stream.kind for stream in made.info.others)

    assert kinds(StreamPolicy(), "a.mp4") == ["audio", "audio", "subtitle"]
    assert kinds(StreamPolicy(audio="drop"), "b.mp4") == ["subtitle"]
    assert kinds(StreamPolicy(subtitles="drop"), "c.mp4") == ["audio", "audio"]
    assert kinds(StreamPolicy(data="keep"), "d.mp4") == ["audio", "audio", "data", "subtitle"]
    with pytest.raises(ConfigError, match="audio is 'mute'"):
        StreamPolicy(audio="mute")  # type: ignore[arg-type]
    told = StreamPolicy().described(VideoReader(path).info)
    assert told == {"kept": {"audio": 2, "subtitle": 1}, "dropped": {"data": 1}}


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with open_container(path) as container:
        (stream,) = (s for s in container.streams if s.type == kind)
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_and_words_are_copied_packet_by_packet(tmp_path: Path, suffix: str) -> None:
    how = ClipFormat(audio=1, subtitles=True)
    path = write_clip(tmp_path / f"in{suffix}", pictures(), how)
    copied(path, tmp_path / f"out{suffix}")
    for kind in ("audio", "subtitle"):
        before, after = packets(path, kind), packets(tmp_path / f"out{suffix}", kind)
        assert before == after
        assert before


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_no_remark_survives(tmp_path: Path, suffix: str) -> None:
    how = ClipFormat(remarks=True, audio=1, data=suffix == ".mp4")
    path = write_clip(tmp_path / f"in{suffix}", pictures(), how)
    content = path.read_bytes()
    assert content.count(CANARY.encode()) >= 3
    made = copied(path, tmp_path / f"out{suffix}")
    content = (tmp_path / f"out{suffix}").read_bytes()
    for part in (CANARY, "Anna", "48.137", "+48"):
        assert part.encode() not in content
    assert [stream.kind for stream in made.info.others] == ["audio"]
    with open_container(tmp_path / f"out{suffix}") as container:
        assert not container.chapters()


def test_segments_of_irregular_speed_join(tmp_path: Path) -> None:
    """Fast frames before slow ones: the encoders' own decoding times would overlap."""
    ticks = [*range(0, 8000, 1000), *range(30000, 270000, 30000)]
    path = write_clip(tmp_path / "in.mp4", pictures(16), ClipFormat(ticks=ticks, b_frames=3))
    made = copied(path, tmp_path / "out.mp4", cuts=(3, 8, 9))
    assert [t * 30000 for t in times(made)] == ticks
    with open_container(tmp_path / "out.mp4") as container:
        dts = [p.dts for p in container.demux(video=0) if p.size]
    assert dts == sorted(set(dts))


def test_the_options_of_the_encoder_have_their_effect(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", pictures())
    fine = copied(path, tmp_path / "fine.mp4", EncoderSettings(quality=5))
    coarse = copied(path, tmp_path / "coarse.mp4", EncoderSettings(quality=45))
    assert fine.path.stat().st_size > 1.5 * coarse.path.stat().st_size
    assert copied(path, tmp_path / "x.mp4", EncoderSettings("libx265")).info.codec == "hevc"
    with pytest.raises(ConfigError, match="quality is 99"):
        EncoderSettings(quality=99).resolve(fine.info)
    with pytest.raises(ConfigError, match="codec is 'gif'"):
        EncoderSettings("gif")


def test_hardware_that_is_not_there_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", pictures(2))
    with pytest.raises(VideoError, match=r"hwaccel 'abacus' cannot decode .* leave it out"):
        VideoReader(path, hwaccel="abacus")
    if "h264_nvenc" in av.codecs_available and not Path("/dev/nvidiactl").exists():
        with pytest.raises(VideoError, match=r"h264_nvenc cannot be used here .* libx264"):
            Encoding(VideoReader(path).info, EncoderSettings("h264_nvenc"))
        with pytest.raises(VideoError, match="hwaccel 'cuda' cannot decode"):
            VideoReader(path, hwaccel="cuda")


def test_every_encoder_knows_its_decoder() -> None:
    for encoder in ENCODERS.values():
        assert av.Codec(encoder.decoder, "r").canonical_name == encoder.codec


# ---- hostile files


PLAYLISTS = {
    "ffconcat": b"ffconcat version 1.0\nfile victim.mp4\n",
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nvictim.mp4\n#EXT-X-ENDLIST\n",
    "dash": b'<?xml version="1.0"?><MPD><Period><BaseURL>victim.mp4</BaseURL></Period></MPD>',
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\n",
    "ffmetadata": b";FFMETADATA1\ntitle=x\n",
    "image sequence": b"\x89PNG\r\n\x1a\n",
    "hls after a sync byte": b"G#EXTM3U\n#EXTINF:3,\nvictim.mp4\n" + b"G" * 200,
}


@pytest.mark.parametrize("name", ["in.mp4", "in.m3u8", "in.mkv"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_no_playlist_opens_another_file(
    tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "victim.mp4", pictures(2))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_bytes(PLAYLISTS[kind])
    with pytest.raises(VideoError, match="not a video that is read here"):
        VideoReader(path)


def test_the_list_of_containers_holds_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even content that looks like a container at its start is never read as a playlist."""
    write_clip(tmp_path / "victim.mp4", pictures(2))
    monkeypatch.setattr("lreorg_fast.media.containers._container", lambda start: "mov")
    for kind, content in PLAYLISTS.items():
        path = tmp_path / f"{kind}.mp4"
        path.write_bytes(content)
        with pytest.raises(VideoError):
            VideoReader(path)


def test_empty_missing_and_odd_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video")
    reasons = {
        "pipe.mp4": "not a regular file",
        "empty.mp4": "is empty",
        "text.mp4": "not a video",
        "nobody.mp4": "cannot read",
        ".": "cannot read",
    }
    for name, reason in reasons.items():
        with pytest.raises(VideoError, match=reason):
            VideoReader(tmp_path / name)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_file_is_refused_or_shorter_but_never_wrong(
    tmp_path: Path, suffix: str
) -> None:
    path = write_clip(tmp_path / f"in{suffix}", pictures(24))
    whole = path.read_bytes()
    counted = 0
    for share in (0.02, 0.3, 0.6, 0.95):
        path.write_bytes(whole[: int(len(whole) * share)])
        try:
            counted += len(list(VideoReader(path).frames()))
        except VideoError:
            continue
        assert suffix == ".mkv"  # it has no list of its frames: what is there is a video
    assert counted < 3 * 24


def test_mp4_with_its_index_in_front_tells_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, picture in enumerate(pictures(24)):
            frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(VideoError, match=r"truncated|damaged"):
        list(VideoReader(path).frames())


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (VideoLimits(max_pixels=WIDTH * HEIGHT - 1), "64 x 48 pixels"),
        (VideoLimits(max_frames=11), "too long"),
        (VideoLimits(max_seconds=0.3), "too long"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_limits_are_errors(tmp_path: Path, suffix: str, limits: VideoLimits, reason: str) -> None:
    path = write_clip(tmp_path / f"in{suffix}", pictures())
    with pytest.raises(VideoError, match=reason):
        list(VideoReader(path, limits).frames())
    assert len(list(VideoReader(path).frames())) == 12


def test_a_second_picture_track_is_not_passed_through(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        frame = av.VideoFrame.from_ndarray(pictures(1)[0]).reformat(format="yuv420p")
        for stream in streams:
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="2 video streams"):
        VideoReader(path)


def test_what_a_container_cannot_hold_is_told_before_the_work(tmp_path: Path) -> None:
    source = VideoReader(write_clip(tmp_path / "in.mp4", pictures(2), ClipFormat(audio=1)))
    with pytest.raises(VideoError, match="does not take h264"):
        check_target_container(tmp_path / "out.webm", source, Encoding(source.info), StreamPolicy())
    vp9 = Encoding(source.info, EncoderSettings("libvpx-vp9"))
    with pytest.raises(VideoError, match=r"audio stream; choose the suffix \.mkv or drop audio"):
        check_target_container(tmp_path / "out.webm", source, vp9, StreamPolicy())
    check_target_container(tmp_path / "out.webm", source, vp9, StreamPolicy(audio="drop"))
    with pytest.raises(VideoError, match=r"suffix is not one of \.mp4"):
        muxer_of(tmp_path / "out.avi")


def test_the_kind_is_taken_from_the_content(tmp_path: Path) -> None:
    for suffix, kind in ((".mp4", "mov"), (".mkv", "matroska"), (".ts", "mpegts")):
        path = write_clip(tmp_path / f"in{suffix}", pictures(2))
        named = path.rename(tmp_path / f"{kind}.png")
        assert container_of(named) == kind
        assert len(list(VideoReader(named).frames())) == 2


# ---- segments


def test_a_segment_is_checked_byte_by_byte(tmp_path: Path) -> None:
    source = VideoReader(write_clip(tmp_path / "in.mp4", pictures()))
    (segment,), _, _ = encode(source, tmp_path, Encoding(source.info))
    segment.check()
    content = bytearray(segment.path.read_bytes())
    for position in range(0, len(content), max(1, len(content) // 40)):
        content[position] ^= 1
        segment.path.write_bytes(content)
        with pytest.raises(VideoError, match="not what was written"):
            segment.check()
        content[position] ^= 1
    for wrong in (bytes(content[:-1]), bytes(content) + b"x"):
        segment.path.write_bytes(wrong)
        with pytest.raises(VideoError, match="not what was written"):
            segment.check()
    segment.path.unlink()
    with pytest.raises(VideoError, match="cannot be read"):
        segment.check()


def test_sound_that_begins_early_moves_everything_alike_in_another_container(
    tmp_path: Path,
) -> None:
    """AAC begins with 1024 samples before 0, and Matroska begins at 0."""
    path = write_clip(tmp_path / "in.mp4", pictures(), ClipFormat(audio=1))
    made = copied(path, tmp_path / "out.mkv")
    moved = {round(b - a, 2) for a, b in zip(times(VideoReader(path)), times(made), strict=True)}
    assert moved == {Fraction(1, 50)}  # 1024 / 48000 s
    before, after = packets(path, "audio"), packets(tmp_path / "out.mkv", "audio")
    assert {round(b[0] - a[0], 2) for a, b in zip(before, after, strict=True)} == moved


def test_what_is_encoded_is_decoded_at_once_in_order(tmp_path: Path) -> None:
    source = VideoReader(write_clip(tmp_path / "in.mp4", pictures(), ClipFormat(b_frames=3)))
    encoding = Encoding(source.info)
    seen: list[int] = []
    with (tmp_path / "segment").open("wb") as stream:
        encoder = SegmentEncoder(encoding, stream)
        for frame in source.frames():
            picture = frame.picture(source.info.orientation)
            seen += [shown.pts for shown in encoder.add(encoding.frame(frame, picture, picture))]
        _, rest = encoder.finish(tmp_path / "segment")
    assert seen + [shown.pts for shown in rest] == [frame.pts for frame in source.frames()]


def test_another_picture_in_the_file_is_noticed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", pictures())
    wrong = [p // 2 + 40 for p in pictures()]
    copied(write_clip(tmp_path / "other.mp4", wrong), tmp_path / "wrong.mp4")
    source = VideoReader(path)
    encoding = Encoding(source.info)
    segments, shown, durations = encode(source, tmp_path, encoding, (5,))
    right = tmp_path / "right.mp4"
    with right.open("wb") as stream:
        write_video(stream, right, source, encoding, segments, durations, StreamPolicy())
    check_written(right, source, segments, shown)
    with pytest.raises(VideoError, match="does not show the frames"):
        check_written(tmp_path / "wrong.mp4", source, segments, shown)
    with pytest.raises(VideoError, match="begins at another time"):
        check_written(right, source, segments, shown + 100)
    uneven = shown + 100 * (np.arange(len(shown)) == 7)
    with pytest.raises(VideoError, match="a frame at another time"):
        check_written(right, source, segments, uneven)
    with pytest.raises(VideoError, match="too many"):
        check_written(right, source, segments[:1], shown)
