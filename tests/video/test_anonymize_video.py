"""Videos from file to file, on tiny networks and with a detector that knows the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import toy_bundle
from clips import CANARY, ClipFormat, write_clip
from stamped import Film, TrueDetector, exposed

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError, OutputError, VideoError
from lreorg_fast.faces.detection import Detection
from lreorg_fast.faces.tracking import TrackingSettings
from lreorg_fast.media.encoding import EncoderSettings
from lreorg_fast.media.muxing import StreamPolicy
from lreorg_fast.media.video import VideoLimits, VideoReader, open_container
from lreorg_fast.scene import SceneSettings
from lreorg_fast.video import VideoSettings, anonymize_video, default_target

Shown = Callable[[Path], list[np.ndarray]]


def test_everybody_is_replaced_and_pays_once(
    anonymizer: lf.Anonymizer, film: Film, source: Path, shown: Shown
) -> None:
    target = source.with_name("out.mp4")
    report = anonymizer.video(source, target, detector=TrueDetector(film))
    assert report.complete
    assert (report.frames, report.exposed, report.blanked) == (48, 0, 0)
    assert exposed(film, shown(source), shown(target)) == []
    assert len(report.tracks) == 2
    for track in report.tracks:
        assert track.epsilon == 1
        assert track.replaced == track.seen + track.between
        assert anonymizer.ledger.total(track.track) == 1
        assert not anonymizer.ledger.drawn(track.track)  # forgotten when the video is done
    assert report.faces == sum(track.replaced for track in report.tracks)
    json.dumps(report.to_dict(), allow_nan=False)
    assert not list(source.parent.glob(".*"))  # no work folder, no temporary file


def test_300_frames_of_one_person_cost_epsilon_once(
    anonymizer: lf.Anonymizer, tmp_path: Path
) -> None:
    film = Film(300, ["waiting"])
    draws = []
    held = anonymizer.ledger.held

    def counted(track, draw, epsilon, keyword="identity"):
        return held(track, lambda: draws.append(track) or draw(), epsilon, keyword)

    anonymizer.ledger.held = counted  # type: ignore[method-assign]
    report = anonymizer.video(
        film.write(tmp_path / "in.mp4"),
        detector=TrueDetector(film),
        scene=SceneSettings(epsilon=0.5),
        video=VideoSettings(segment_frames=64),
    )
    (track,) = report.tracks
    assert len(draws) == 1
    assert track.replaced == 300
    assert report.ledger["tracks"] == {track.track: 0.5}


def test_faces_of_one_person_look_alike_and_those_of_two_do_not(
    anonymizer: lf.Anonymizer, tmp_path: Path, shown: Shown
) -> None:
    """The toy generator makes noise, but one noise per latent: what is drawn is seen."""
    film = Film(12)
    source, target = film.write(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    settings = SceneSettings(keep=[])
    anonymizer.video(source, target, detector=TrueDetector(film), scene=settings)
    pictures = shown(target)

    def face(number: int, person: int) -> np.ndarray:
        truth = film.clip.faces(number)[person]
        x, y = ((truth.box[:2] + truth.box[2:]) / 2).round().astype(int)
        return pictures[number][y - 8 : y + 8, x - 8 : x + 8].mean(axis=(0, 1))

    same = np.abs(face(2, 1) - face(6, 1)).mean()
    other = np.abs(face(2, 1) - face(2, 0)).mean()
    assert same < other


@pytest.mark.parametrize("method", ["fill", "pixelate"])
def test_methods_without_networks_need_none(
    film: Film, source: Path, shown: Shown, method: str
) -> None:
    target = source.with_name("out.mkv")
    report = anonymize_video(
        None, TrueDetector(film), source, target, scene=SceneSettings(method=method)
    )
    assert report.complete
    assert report.counts["filled" if method == "fill" else "pixelated"] == report.faces
    if method == "fill":
        assert exposed(film, shown(source), shown(target)) == []
    assert report.bundle == {}


def test_everything_else_of_the_file_is_kept(film: Film, tmp_path: Path) -> None:
    ticks = np.cumsum([(1001, 1500, 7000)[i % 3] for i in range(len(film))]).tolist()
    how = ClipFormat(
        ticks=ticks,
        b_frames=3,
        rotation=180,
        audio=1,
        subtitles=True,
        data=True,
        remarks=True,
        colour=(1, 5, 6, 5),
        aspect=Fraction(16, 15),
    )
    upside_down = [np.rot90(picture, 2) for picture in film.pictures()]
    source = write_clip(tmp_path / "in.mp4", upside_down, how)
    target = tmp_path / "out.mp4"
    report = anonymize_video(
        None, TrueDetector(film), source, target, scene=SceneSettings(method="fill")
    )
    assert report.faces > 80  # found upright
    before, after = VideoReader(source), VideoReader(target)
    assert [f.pts for f in before.frames()] == [f.pts for f in after.frames()]
    for name in ("orientation", "color_primaries", "color_space", "sample_aspect", "time_base"):
        assert getattr(before.info, name) == getattr(after.info, name)
    assert report.streams == {
        "kept": {"audio": 1, "subtitle": 1},
        "dropped": {"data": 2, "picture": 1},  # MP4 keeps chapters as a stream of text
    }
    assert CANARY.encode() not in target.read_bytes()
    with open_container(target) as container:
        assert not container.chapters()
        assert "title" not in container.metadata


def test_settings_have_their_effect(film: Film, source: Path, shown: Shown) -> None:
    def made(name: str, **how: object) -> Path:
        target = source.with_name(name)
        anonymize_video(
            None,
            TrueDetector(film),
            source,
            target,
            scene=SceneSettings(method="fill"),
            video=VideoSettings(**how),  # type: ignore[arg-type]
        )
        return target

    plain = made("a.mp4")
    assert VideoReader(made("b.mp4", encoder=EncoderSettings("libx265"))).info.codec == "hevc"
    coarse = made("c.mp4", encoder=EncoderSettings(quality=40))
    assert coarse.stat().st_size < plain.stat().st_size
    narrow = TrackingSettings(extend_seconds=0, lost_seconds=0.05)
    wide = TrackingSettings(extend_seconds=1.0)
    filled = [
        (np.stack(shown(path)) == 128).mean()
        for path in (made("d.mp4", tracking=narrow), made("e.mp4", tracking=wide))
    ]
    assert filled[0] < filled[1]
    with pytest.raises(VideoError, match="too long"):
        made("f.mp4", limits=VideoLimits(max_frames=10))
    assert not source.with_name("f.mp4").exists()
    with pytest.raises(VideoError, match="hwaccel"):
        made("g.mp4", hwaccel="abacus")
    with pytest.raises(ConfigError, match="segment_frames is 1"):
        VideoSettings(segment_frames=1)
    with pytest.raises(ConfigError, match="latent_cutoff is -1"):
        VideoSettings(latent_cutoff=-1)


def test_the_sound_is_dropped_when_asked(film: Film, tmp_path: Path) -> None:
    source = film.write(tmp_path / "in.mp4", ClipFormat(audio=1))
    for keep in ("keep", "drop"):
        target = tmp_path / f"{keep}.mp4"
        anonymize_video(
            None,
            TrueDetector(film),
            source,
            target,
            scene=SceneSettings(method="fill"),
            video=VideoSettings(streams=StreamPolicy(audio=keep)),  # type: ignore[arg-type]
        )
        kinds = [stream.kind for stream in VideoReader(target).info.others]
        assert kinds == (["audio"] if keep == "keep" else [])


def test_segments_and_their_borders_cannot_be_seen(film: Film, source: Path) -> None:
    """Short segments: the same number of frames, the same times, everybody hidden."""
    target = source.with_name("out.mp4")
    report = anonymize_video(
        None,
        TrueDetector(film),
        source,
        target,
        scene=SceneSettings(method="fill"),
        video=VideoSettings(segment_frames=8),
    )
    assert report.complete
    before, after = VideoReader(source), VideoReader(target)
    assert [f.pts for f in before.frames()] == [f.pts for f in after.frames()]
    assert after.info.rate == before.info.rate


def test_calm_latents_change_less(anonymizer: lf.Anonymizer, tmp_path: Path) -> None:
    """The latents that reach CDFNet differ less from frame to frame."""
    film = Film(16, ["waiting"])
    source = film.write(tmp_path / "in.mp4")
    seen: dict[float, list[torch.Tensor]] = {}
    reorganize = anonymizer.engine.reorganize

    def watched(s, replace, keep):
        if replace and keep:
            seen[cutoff].append(s.detach().clone())
        return reorganize(s, replace, keep)

    anonymizer.engine.reorganize = watched  # type: ignore[method-assign]
    for cutoff in (0.0, 1.5):
        seen[cutoff] = []
        anonymizer.video(
            source,
            source.with_name(f"{cutoff}.mp4"),
            detector=TrueDetector(film),
            video=VideoSettings(latent_cutoff=cutoff),
        )
    rough, calm = (
        torch.stack([s[0] for s in seen[cutoff]]).diff(dim=0).square().mean().sqrt()
        for cutoff in (0.0, 1.5)
    )
    assert calm < 0.8 * rough


def test_nobody_in_the_video_is_told_by_the_numbers(film: Film, source: Path, shown: Shown) -> None:
    target = source.with_name("out.mp4")
    report = anonymize_video(
        None,
        TrueDetector(film, lambda number, found: []),
        source,
        target,
        scene=SceneSettings(method="fill"),
    )
    assert (report.faces, len(report.tracks)) == (0, 0)
    assert np.abs(np.stack(shown(target)).astype(int) - np.stack(shown(source))).mean() < 2


def test_faces_of_another_kind_are_an_error_that_names_the_remedies(
    tmp_path: Path, film: Film, source: Path
) -> None:
    strict = lf.Anonymizer.load(toy_bundle(tmp_path / "s", calibration={"verify.face": 1e9}))
    with pytest.raises(VideoError, match=r"kind of the bundle 'toy' .*'fill' or 'pixelate'"):
        strict.video(source, detector=TrueDetector(film))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "s"]


def test_nothing_is_overwritten(film: Film, source: Path) -> None:
    fill = SceneSettings(method="fill")
    target = default_target(source)
    assert target.name == "in_anonymized.mp4"
    target.write_text("of last year")
    with pytest.raises(OutputError, match="exists already"):
        anonymize_video(None, TrueDetector(film), source, scene=fill)
    assert target.read_text() == "of last year"
    anonymize_video(None, TrueDetector(film), source, scene=fill, overwrite=True)
    assert len(list(VideoReader(target).frames())) == len(film)
    with pytest.raises(OutputError, match="is the source"):
        anonymize_video(None, TrueDetector(film), source, source, scene=fill, overwrite=True)
    with pytest.raises(VideoError, match="suffix"):
        anonymize_video(None, TrueDetector(film), source, source.with_suffix(".avi"), scene=fill)
    odd = source.rename(source.with_name("in.jpg"))
    assert default_target(odd).name == "in_anonymized.mp4"
    assert default_target(source.with_name("x.MOV")).name == "x_anonymized.MOV"


def test_progress_counts_every_frame_of_both_passes(film: Film, source: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    anonymize_video(
        None,
        TrueDetector(film),
        source,
        scene=SceneSettings(method="fill"),
        progress=lambda *call: calls.append(call),
    )
    for stage in ("find", "edit"):
        done = [number for name, number, total in calls if name == stage and total == 48]
        assert done[:48] == list(range(1, 49))
    assert calls[-1] == ("write", 48, 48)


def test_a_report_holds_nothing_of_a_face(anonymizer: lf.Anonymizer, tmp_path: Path) -> None:
    film = Film(12)
    source = film.write(tmp_path / "in.mp4")
    report = anonymizer.video(source, detector=TrueDetector(film)).to_dict()
    text = json.dumps(report)
    assert 'landmarks": [' not in text
    for track in report["tracks"]:
        flicker = track["flicker"]
        assert set(flicker) == {
            "identity_source",
            "identity_result",
            "landmarks_source",
            "landmarks_result",
        }
        assert flicker["identity_source"] >= 0
        assert flicker["identity_result"] >= 0


def test_a_slow_detector_is_asked_once_per_frame(film: Film, source: Path) -> None:
    detector = TrueDetector(film)
    anonymize_video(None, detector, source, scene=SceneSettings(method="fill"))
    assert detector.calls == list(range(48))


def test_doubtful_detections_count_with_sure_ones_only(film: Film, source: Path) -> None:
    def doubtful(number: int, found: list[Detection]) -> list[Detection]:
        score = 0.9 if number == 20 else 0.12
        return [Detection(face.box, score, face.landmarks) for face in found[:1]]

    report = anonymize_video(
        None, TrueDetector(film, doubtful), source, scene=SceneSettings(method="fill")
    )
    assert max(track.seen for track in report.tracks) > 20
    assert report.dropped < 30
