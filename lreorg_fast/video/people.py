"""Who the people of a video are: tracks, and what a user said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, VideoError
from lreorg_fast.faces.track_plan import TrackPlan
from lreorg_fast.privacy import Subject, Subjects
from lreorg_fast.privacy.people import NamedPlace
from lreorg_fast.video.checkpoint import Checkpoint


def named_tracks(
    subjects: Subjects, source: Path, plan: TrackPlan, times: NDArray[np.float64]
) -> dict[int, Subject]:
    """The tracks whose person is named; all others are persons of their own.

    Args:
        subjects: who is on the video.
        source: the video.
        plan: everybody in every frame.
        times: (frames,) seconds, rising.

    Raises:
        VideoError: one person is named for the whole video, and two faces are in it at one time.
        ConfigError: a line about the video matches no face, or two contradict each other; of the
            pseudonyms.
        PrivacyError, OutputError: of the pseudonyms.
    """
    labels = _labels(subjects, source, plan, times)
    people = {label: subjects.labelled(label) for label in dict.fromkeys(labels.values())}
    return {track: people[label] for track, label in labels.items()}


def agreed_people(
    work: Checkpoint,
    subjects: Subjects,
    source: Path,
    plan: TrackPlan,
    times: NDArray[np.float64],
) -> dict[int, Subject]:
    """:func:`named_tracks`, which must be those of the interrupted run that goes on.

    Raises:
        ConfigError: they are not.
    """
    people = named_tracks(subjects, source, plan, times)
    named = {str(number): str(subject.track) for number, subject in people.items()}
    if work.agreed("people", named) != named:
        raise ConfigError(
            "the interrupted run named other people, or counted them in that run only; use the "
            "same names with --ledger or --pseudonyms, or start anew by --force"
        )
    return people


def _labels(
    subjects: Subjects, source: Path, plan: TrackPlan, times: NDArray[np.float64]
) -> dict[int, str]:
    every = range(len(plan.tracks))
    if subjects.person is not None:
        label = subjects.person(source)
        return _apart(dict.fromkeys(every, label), plan, times, f"'{source}'")
    if subjects.people is None:
        return {}
    found: dict[int, str] = {}
    for place in subjects.people.of(source):
        for track in _tracks(place, plan, times):
            if found.setdefault(track, place.person) != place.person:
                raise ConfigError(
                    f"{place.where} names a face that an earlier line gives another person; "
                    "correct one of them"
                )
        _apart(found, plan, times, place.where)
    return found


def _tracks(place: NamedPlace, plan: TrackPlan, times: NDArray[np.float64]) -> Iterable[int]:
    """Those that a line means: all, or the one at a point and time."""
    if place.point is None:
        if not plan.tracks:
            raise ConfigError(f"{place.where} names a person, but nobody is found; take it out")
        return range(len(plan.tracks))
    if place.seconds is None:
        raise ConfigError(f"{place.where} names a point of a video; add the seconds it is there")
    shown = times - times[0]
    # The last frame is shown for as long as those before it.
    end = shown[-1] + (np.median(np.diff(shown)) if len(shown) > 1 else 1.0)
    if place.seconds > end:
        raise ConfigError(
            f"{place.where} names {place.seconds:g} s, but the video ends at {end:.2f} s; correct "
            "it"
        )
    # A little more, because players round the times that they show.
    frame = int(np.searchsorted(shown, place.seconds + 1e-3, side="right")) - 1
    planned = plan[frame]
    boxes = np.array([face.detection.box for face in planned]).reshape(-1, 4)
    return [planned[place.face_in(boxes)].track]


def _apart(
    labels: Mapping[int, str], plan: TrackPlan, times: NDArray[np.float64], where: str
) -> dict[int, str]:
    """The labels, if nobody is in two places at one time."""
    if len(set(labels.values())) < len(labels):
        for frame, planned in enumerate(plan):
            here = [labels[face.track] for face in planned if face.track in labels]
            if len(set(here)) < len(here):
                raise VideoError(
                    f"{where} names one person, but has two of their faces at "
                    f"{times[frame] - times[0]:.2f} s; say who is where with --people FILE"
                )
    return dict(labels)
