"""What a bundle says about itself: `bundle.json` as validated, frozen data (docs/bundle.md)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, TypeVar

import lreorg_fast
from lreorg_fast.errors import BundleError, ConfigError
from lreorg_fast.keywords import Keyword

FORMAT = "lreorg-bundle"
VERSION = 1
MANIFEST_NAME = "bundle.json"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_ROLE = re.compile(r"[a-z][a-z0-9_]*(:[a-z0-9_-]+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_NAME = 100
_MAX_TEXT = 4000

Built = TypeVar("Built")


@dataclass(frozen=True)
class Domain:
    """What the pictures are that the bundle was made for.

    Args:
        kind: one word or two, such as ``avatars`` or ``ffhq``.
        resolution: side length in pixels of the square pictures of the generator, 1 to 8192.
        description: for people.
        alignment: how faces are cut out of a picture: where their left eye, right eye, nose, left
            and right corner of the mouth are in the square, as (x, y) shares of its side; None is
            the alignment of the kind (docs/pictures.md), FFHQ's unless that is ``avatars``.
    """

    kind: str
    resolution: int
    description: str = ""
    alignment: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        _check_text("domain.kind", self.kind, shortest=1)
        _check_text("domain.description", self.description)
        _check_integer("domain.resolution", self.resolution, 1, 8192)
        if self.alignment is not None:
            object.__setattr__(self, "alignment", _checked_points(self.alignment))


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle: its SHA-256 (64 lower-case hex digits) and its size in bytes."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise BundleError(
                f"files: the sha256 {self.sha256!r:.80} is not 64 lower-case hex digits"
            )
        _check_integer("files: bytes", self.bytes, 0, 2**50)


@dataclass(frozen=True)
class Part:
    """One network or table of a bundle.

    Args:
        architecture: name of the class that it is built as.
        file: the safetensors file with its tensors, one of the manifest's files.
        config: what that class is built with; JSON values, not to be changed.
    """

    architecture: str
    file: str
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_text("parts: architecture", self.architecture, shortest=1)
        check_file_name(self.file)
        _check_json_object("parts: config", self.config)


@dataclass(frozen=True)
class BundleManifest:
    """Everything in ``bundle.json`` except the format and its version.

    Args:
        name: of the bundle, for people.
        license: an SPDX expression or a sentence; of the weights, not of the code.
        domain: what pictures it is for.
        parts: role -> part. Roles are lower-case words, with ``:detail`` where there are several
            of a kind (``identity:training``, ``identity:evaluation-2``).
        keywords: what CDFNet was trained on, in the order of the feature tables.
        calibration: name -> finite number, such as thresholds.
        recipe: how it was made: command, seeds, versions, time.
        figures: what was measured on it, with n and intervals.
        files: name -> size and digest; :func:`lreorg_fast.weights.write_bundle` fills it in.
        package_version: version of lreorg_fast that wrote it.
        created: UTC time, ISO 8601.

    Raises:
        BundleError: naming the field, the value and what is allowed.
    """

    name: str
    license: str
    domain: Domain
    parts: Mapping[str, Part] = field(default_factory=dict)
    keywords: tuple[Keyword, ...] = ()
    calibration: Mapping[str, float] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, BundleFile] = field(default_factory=dict)
    package_version: str = lreorg_fast.__version__
    created: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )

    def __post_init__(self) -> None:
        for text_field in ("name", "license", "package_version"):
            _check_text(text_field, getattr(self, text_field), shortest=1)
        _check_time("created", self.created)
        for role in self.parts:
            if not _ROLE.fullmatch(role) or len(role) > _MAX_NAME:
                raise BundleError(
                    f"parts: the role {role!r:.80} must be a lower-case word, with ':detail' if "
                    "there are several of a kind"
                )
        for name in self.files:
            check_file_name(name)
        if len({name.casefold() for name in self.files}) < len(self.files):
            raise BundleError("files: two names differ in case only; rename one")
        if len({keyword.name for keyword in self.keywords}) < len(self.keywords):
            raise BundleError("keywords: a name is listed twice; remove one")
        for name, number in self.calibration.items():
            if type(number) not in (int, float) or not abs(number) <= sys.float_info.max:
                raise BundleError(
                    f"calibration: {name!r:.80} is {number!r:.80}, not a finite number"
                )
        _check_json_object("recipe", self.recipe)
        _check_json_object("figures", self.figures)

    def check_references(self) -> None:
        """Every part's file must be listed.

        Raises:
            BundleError: one is not.
        """
        for role, part in self.parts.items():
            if part.file not in self.files:
                raise BundleError(
                    f"the part '{role}' needs the file '{part.file}', which is not listed"
                )


def check_file_name(name: object) -> None:
    """Bundle files lie flat in the folder, under names that no system reads as a path.

    Raises:
        BundleError: anything else.
    """
    if (
        not isinstance(name, str)
        or not _FILE_NAME.fullmatch(name)
        or len(name) > _MAX_NAME
        or name.casefold() == MANIFEST_NAME
    ):
        raise BundleError(
            f"the file name {name!r:.80} is not allowed; use letters, digits, '_', '-' and single "
            f"dots, without folders, and not {MANIFEST_NAME}"
        )


def manifest_to_json(manifest: BundleManifest) -> dict[str, Any]:
    """The content of ``bundle.json``."""
    keywords = [
        {"name": k.name, "contents": list(k.contents), "template": k.template}
        for k in manifest.keywords
    ]
    plain = {name.name: getattr(manifest, name.name) for name in fields(manifest)}
    return {
        "format": FORMAT,
        "version": VERSION,
        **plain,
        "domain": vars(manifest.domain),
        "files": {name: vars(file) for name, file in manifest.files.items()},
        "parts": {role: vars(part) for role, part in manifest.parts.items()},
        "keywords": keywords,
    }


def manifest_from_json(value: object) -> BundleManifest:
    """The reverse of :func:`manifest_to_json`, for content that nobody vouches for.

    Raises:
        BundleError: another format or version, an unknown, missing or mistyped field.
    """
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BundleError(f"it is not a bundle manifest (its format is not '{FORMAT}')")
    version = value.get("version")
    if type(version) is not int or version != VERSION:
        raise BundleError(
            f"its version is {version!r:.80} and this package reads {VERSION}; upgrade lreorg_fast "
            "or export the bundle again"
        )
    known = {name: given for name, given in value.items() if name not in ("format", "version")}
    for name, converter in _CONVERTERS.items():
        if name in known:
            known[name] = converter(name, known[name])
    return _build(BundleManifest, "the manifest", known)


def _object(where: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BundleError(f"{where} is {value!r:.80} and must be an object")
    return value


def _build(
    kind: type[Built], where: str, value: object, required: tuple[str, ...] | None = None
) -> Built:
    """Make a dataclass of a JSON object; unknown and missing fields are errors."""
    names = tuple(entry.name for entry in fields(kind))  # type: ignore[arg-type]
    given = _object(where, value)
    for name in given:
        if name not in names:
            raise BundleError(
                f"{where} has the unknown field {name!r:.80}; allowed are {', '.join(names)}"
            )
    for name in names if required is None else required:
        if name not in given:
            raise BundleError(f"{where} lacks the field '{name}'")
    try:
        return kind(**given)
    except ConfigError as error:
        raise BundleError(f"{where}: {error}") from error


def _object_of(kind: type[Built]) -> Callable[[str, object], dict[str, Built]]:
    def convert(where: str, value: object) -> dict[str, Built]:
        return {
            name: _build(kind, f"{where}: {name!r:.80}", entry)
            for name, entry in _object(where, value).items()
        }

    return convert


def _keywords(where: str, value: object) -> tuple[Keyword, ...]:
    if not isinstance(value, list):
        raise BundleError(f"{where} is {value!r:.80} and must be a list")
    return tuple(_build(Keyword, where, entry, required=("name",)) for entry in value)


_CONVERTERS: dict[str, Callable[[str, object], object]] = {
    "domain": lambda where, value: _build(
        # Bundles that were written before there was an alignment have none.
        Domain,
        where,
        value,
        required=("kind", "resolution", "description"),
    ),
    "files": _object_of(BundleFile),
    "parts": _object_of(Part),
    "keywords": _keywords,
    "calibration": _object,
}


def _check_text(where: str, value: object, shortest: int = 0) -> None:
    # Only printable: these texts end up in terminals and reports.
    if (
        not isinstance(value, str)
        or not shortest <= len(value) <= _MAX_TEXT
        or not value.replace("\n", "").isprintable()
    ):
        raise BundleError(
            f"{where} is {value!r:.80} and must be a text of {shortest} to {_MAX_TEXT} printable "
            "characters"
        )


def _check_integer(where: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise BundleError(f"{where} is {value!r:.80} and must be an integer from {least} to {most}")


def _checked_points(value: object) -> tuple[tuple[float, float], ...]:
    points = list(value) if isinstance(value, (list, tuple)) else []
    for point in points:
        good = isinstance(point, (list, tuple)) and len(point) == 2
        # Landmarks outside of the square would be a face that is not in the generator's picture.
        if not good or not all(type(v) in (int, float) and 0 <= v <= 1 for v in point):
            points = []
            break
    if len(points) != 5 or len({tuple(point) for point in points}) < 5:
        raise BundleError(
            f"domain.alignment is {value!r:.80} and must be five different points (x, y) in [0, 1]"
        )
    return tuple((float(x), float(y)) for x, y in points)


def _check_time(where: str, value: object) -> None:
    _check_text(where, value, shortest=1)
    try:
        offset = datetime.fromisoformat(str(value).replace("Z", "+00:00")).utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        raise BundleError(f"{where} is {value!r:.80} and must be an ISO 8601 time with its offset")


def _check_json_object(where: str, value: object) -> None:
    try:
        text = json.dumps(value, allow_nan=False)
        same = isinstance(value, dict) and json.loads(text) == value
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{where} must be a JSON object: {error}") from None
    if not same:
        # Tuples and integer keys come back as lists and texts: what is read would not be what
        # was written.
        raise BundleError(f"{where} must be a JSON object of lists, texts, numbers and objects")
