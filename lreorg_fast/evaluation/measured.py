"""What an evaluation found, as data: one entry per figure, also where none could be measured.

The tables, the plots and the files of the report are made of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.figures import Figure

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """What a figure is.

    Args:
        title: as a column says it.
        better: which way protects or preserves more.
        meaning: one sentence for the report's glossary.
        percent: whether it is a share, shown as a percentage.
    """

    title: str
    better: Better
    meaning: str
    percent: bool = True


METRICS: Mapping[str, Metric] = {
    "tar": Metric(
        "originals recognised",
        "higher",
        "Share of pairs of originals of one person that the recognizer accepts: whether it works.",
    ),
    "psr": Metric(
        "PSR",
        "higher",
        "Share of released faces that are not accepted as the person's other picture, at a "
        "threshold with a fixed false accept rate on originals.",
    ),
    "similarity": Metric(
        "similarity to the person",
        "neither",
        "Mean cosine to another original of the person; right where it is that of strangers.",
        percent=False,
    ),
    "similarity_gap": Metric(
        "similarity gap",
        "neither",
        "Similarity to the person minus that to strangers: 0 is right, below 0 is a leak too.",
        percent=False,
    ),
    "rank_1": Metric(
        "re-identified (rank 1)",
        "lower",
        "Share of faces whose person is the most similar in the gallery of originals.",
    ),
    "rank_5": Metric(
        "among the first 5",
        "lower",
        "Share of faces whose person is among the five most similar in the gallery.",
    ),
    "psr_closed_set": Metric(
        "PSR, closed set",
        "higher",
        "One minus rank-1 re-identification: the paper's misclassified share.",
    ),
    "released": Metric(
        "released", "higher", "Share of faces that left as a face and not as a fill, or at all."
    ),
    "detection": Metric(
        "face detected", "higher", "Share of all outputs in which the detector finds a face."
    ),
    "apr": Metric(
        "preserved",
        "higher",
        "Share of outputs that show the attribute as the original does (or truly has it).",
    ),
    "apr_mean": Metric("APR", "higher", "Mean of the attributes' preserved shares."),
    "fid": Metric(
        "FID", "lower", "Frechet distance of Inception features to the originals.", percent=False
    ),
    "feature_distance": Metric(
        "feature distance",
        "lower",
        "Frechet distance of the recognizer-free attribute net's features: stands in for FID "
        "where no Inception weights are; not comparable with FID.",
        percent=False,
    ),
    "landmark_error": Metric(
        "landmark error",
        "lower",
        "Mean distance of the detector's landmarks to the original's, in eye distances.",
        percent=False,
    ),
    "pose_error": Metric(
        "pose error",
        "lower",
        "Mean difference of the head's angles in degrees, estimated from five landmarks.",
        percent=False,
    ),
    "gaze_error": Metric(
        "gaze error",
        "lower",
        "Mean difference of the direction of gaze in degrees.",
        percent=False,
    ),
    "diversity": Metric(
        "diversity",
        "higher",
        "One minus the mean cosine between outputs of different people.",
        percent=False,
    ),
    "recovery": Metric(
        "recovered with the key",
        "higher",
        "Share that is right again after the method's own reversal.",
    ),
    "reverse_rank_1": Metric(
        "reverse attack (rank 1)",
        "lower",
        "An original as probe, anonymized pictures as gallery: its person found first.",
    ),
    "parrot_rank_1": Metric(
        "parrot attack (rank 1)",
        "lower",
        "As rank 1, by a recognizer that was trained on this method's outputs of other people.",
    ),
    "parrot_tar": Metric(
        "parrot attack (accepted)",
        "lower",
        "Share that the parrot's recognizer accepts at a fixed false accept rate.",
    ),
    "rank_last": Metric(
        "rank-last attack",
        "lower",
        "Share of faces whose person is the least similar in the gallery: the opposite face "
        "gives its original away.",
    ),
    "linkage_auc": Metric(
        "linkage AUC",
        "neither",
        "Two anonymizations of one person against those of two people; 0.5 cannot be linked.",
        percent=False,
    ),
    "reversal_rank_1": Metric(
        "reversal without the key (rank 1)",
        "lower",
        "Share that is found first after the method's network was run backwards without its key.",
    ),
    "residual_rank_1": Metric(
        "residual attack (rank 1)",
        "lower",
        "Share that is found first from what the method leaves untouched.",
    ),
    "blanked_rank_1": Metric(
        "outside of the face (rank 1)",
        "lower",
        "Share that is found first from the output with its face blanked.",
    ),
    "attribute_inference": Metric(
        "attribute inferred",
        "lower",
        "Share of hidden attributes that a classifier trained on outputs names rightly.",
    ),
    "audit_epsilon": Metric(
        "epsilon, lower bound",
        "lower",
        "What an audit proves that the draws leak at least (docs/audit.md).",
        percent=False,
    ),
    "flicker_identity": Metric(
        "identity flicker",
        "lower",
        "Standard deviation of the identity embedding within a track, over the source's.",
        percent=False,
    ),
    "flicker_landmarks": Metric(
        "landmark jitter",
        "lower",
        "How landmarks shake: second differences over three neighbouring frames, in face sizes.",
        percent=False,
    ),
}


@dataclass(frozen=True)
class Measured:
    """One figure of one method, or the reason why there is none.

    Args:
        metric: a key of :data:`METRICS`.
        figure: None where it could not be measured; then ``reason`` says why, in one sentence.
        where: what it is about: ``recognizer``, ``far``, ``attribute``, ``convention``,
            ``group`` (such as "gender: female").

    Raises:
        ConfigError: an unknown metric, or neither or both of figure and reason.
    """

    metric: str
    figure: Figure | None
    where: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"the metric '{self.metric}' is unknown; see METRICS")
        if (self.figure is None) == (self.reason is None):
            raise ConfigError(f"'{self.metric}' needs either a figure or a reason for none")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        figure = None if self.figure is None else asdict(self.figure)
        return {
            "metric": self.metric,
            "where": dict(self.where),
            "figure": figure,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class MethodResult:
    """Everything that was measured of one method.

    Attributes:
        name: short and unique, such as ``lreorg`` or the folder's name.
        title: as tables call it.
        description: what was done, with its settings, in a sentence.
        guarantee: what is promised of it; "none" where nothing is.
        command: that makes its outputs, or names the folder.
        measured: all figures.
    """

    name: str
    title: str
    description: str
    guarantee: str
    command: str
    measured: tuple[Measured, ...]

    def find(self, metric: str, **where: str) -> Measured | None:
        """The first figure of ``metric`` about exactly ``where``, None if it was not asked for."""
        for entry in self.measured:
            if entry.metric == metric and dict(entry.where) == where:
                return entry
        return None

    def all(self, metric: str) -> Iterator[Measured]:
        """Every figure of ``metric``."""
        return (entry for entry in self.measured if entry.metric == metric)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        fields = ("name", "title", "description", "guarantee", "command")
        return {name: getattr(self, name) for name in fields} | {
            "measured": [entry.to_dict() for entry in self.measured]
        }

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> MethodResult:
        """From :meth:`to_dict`'s JSON.

        Raises:
            KeyError, TypeError: a field is missing, unknown or of another type.
            ConfigError: see :class:`Measured`.
        """
        return cls(**{**entries, "measured": _measured(entries["measured"])})


@dataclass(frozen=True)
class Evaluation:
    """One run: the methods, and everything that a reader needs to judge or repeat it.

    Attributes:
        data: ``name``, ``domain`` ("avatars" or "photographs"), ``pictures``, ``subjects``,
            ``statement`` (what the figures are about and what not).
        judges: what judged: ``recognizers`` (name, description), ``attributes``, ``detector``,
            ``fid``; a judge that is missing has a reason in its place.
        judged: figures of the originals themselves, such as ``tar``.
        methods: in the order of the tables.
        run: ``command``, ``version``, ``machine``, ``seconds``, ``date``.
    """

    data: Mapping[str, Any]
    judges: Mapping[str, Any]
    judged: tuple[Measured, ...]
    methods: tuple[MethodResult, ...]
    run: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_dict` takes it."""
        return {
            "format": "lreorg-evaluation",
            "format_version": 1,
            "data": dict(self.data),
            "judges": dict(self.judges),
            "judged": [entry.to_dict() for entry in self.judged],
            "methods": [method.to_dict() for method in self.methods],
            "run": dict(self.run),
        }

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Evaluation:
        """From :meth:`to_dict`'s JSON.

        Raises:
            ConfigError: it is something else.
        """
        if entries.get("format") != "lreorg-evaluation" or entries.get("format_version") != 1:
            raise ConfigError("this is no report of lreorg evaluate of version 1; make it again")
        try:
            methods = tuple(MethodResult.from_dict(method) for method in entries["methods"])
            judged = _measured(entries["judged"])
            return cls(entries["data"], entries["judges"], judged, methods, entries["run"])
        except (KeyError, TypeError) as error:
            raise ConfigError(f"the report lacks or mistypes {error}; make it again") from error


def _measured(entries: Sequence[Mapping[str, Any]]) -> tuple[Measured, ...]:
    return tuple(
        Measured(
            entry["metric"],
            None if entry["figure"] is None else Figure(**entry["figure"]),
            entry["where"],
            entry["reason"],
        )
        for entry in entries
    )


def unavailable(metrics: Iterable[str], reason: str, **where: str) -> list[Measured]:
    """The same reason for several figures that could not be measured."""
    return [Measured(metric, None, where, reason) for metric in metrics]
