"""Keywords: the words that steer CDFNet, as data (Table 1 of the paper).

A keyword has a name, and, if a picture can be sorted by it, two or more contents with a sentence
template. ``identity`` has none. The package's own table is ``data/keywords.json``; a user adds a
keyword by writing such a file (:func:`load_keywords`), not by touching code. CDFNet has to be
fine-tuned for a keyword that it was not trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from lreorg_fast.errors import ConfigError

DEFAULT_HIDE: tuple[str, ...] = ("identity",)
DEFAULT_KEEP: tuple[str, ...] = ("gender", "age", "expression", "makeup")

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_MAX_TEXT = 200  # characters; CLIP reads 77 tokens, so longer text would be cut silently
_MAX_CONTENTS = 64
_MAX_KEYWORDS = 256
_MAX_FILE_BYTES = 1 << 20
_FIELDS = ("name", "contents", "template")


@dataclass(frozen=True)
class Keyword:
    """One keyword and the sentences that tell its contents apart.

    Args:
        name: lower-case letter, then at most 31 of ``a-z 0-9 _ -``; its CLIP text feature steers
            CDFNet.
        contents: two or more different texts, or none for a keyword such as ``identity``.
        template: a text with exactly one ``{}``, filled with each content in turn; None exactly
            when there are no contents.

    Raises:
        ConfigError: any rule above is broken.
    """

    name: str
    contents: tuple[str, ...] = ()
    template: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"keyword name is {_shown(self.name)}, but must be a lower-case letter followed by "
                "at most 31 of a-z, 0-9, '_' or '-'; rename it"
            )
        if not isinstance(self.contents, (tuple, list)):
            raise ConfigError(
                f"contents of keyword '{self.name}' is {_shown(self.contents)}, but must be a "
                'list of texts; write for example ["long", "short"]'
            )
        object.__setattr__(self, "contents", tuple(self.contents))
        self._check_contents()
        self._check_template()

    def _check_contents(self) -> None:
        count = len(self.contents)
        if count == 1 or count > _MAX_CONTENTS:
            raise ConfigError(
                f"keyword '{self.name}' has {count} contents, but must have none or 2 to "
                f"{_MAX_CONTENTS}; give every content that the keyword tells apart"
            )
        for content in self.contents:
            _check_text(f"a content of keyword '{self.name}'", content)
            if "{" in content or "}" in content:
                raise ConfigError(
                    f"a content of keyword '{self.name}' is {_shown(content)}, but braces belong "
                    "to the template only; remove them"
                )
        if len(set(self.contents)) != count:
            raise ConfigError(
                f"contents of keyword '{self.name}' are {_shown(self.contents)}, but must differ "
                "from each other; remove the repeated one"
            )

    def _check_template(self) -> None:
        if (self.template is None) != (not self.contents):
            raise ConfigError(
                f"keyword '{self.name}' has {len(self.contents)} contents and template "
                f"{_shown(self.template)}, but contents and template come together; give both or "
                "neither"
            )
        if self.template is None:
            return
        _check_text(f"template of keyword '{self.name}'", self.template)
        if self.template.count("{}") != 1 or set("{}") & set(self.template.replace("{}", "")):
            raise ConfigError(
                f"template of keyword '{self.name}' is {_shown(self.template)}, but must hold "
                "'{}' exactly once and no other brace; write for example 'a photo of a {}.'"
            )

    @property
    def sentences(self) -> tuple[str, ...]:
        """The template filled with each content, in the order of ``contents``."""
        if self.template is None:
            return ()
        return tuple(self.template.replace("{}", content) for content in self.contents)


class TextEncoder(Protocol):
    """Anything that turns N texts into an (N, dim) float tensor, such as a loaded CLIP."""

    def text(self, sentences: list[str]) -> Any: ...


def load_keywords(path: str | Path) -> dict[str, Keyword]:
    """Read a table of keywords: a JSON list of ``{"name", "contents", "template"}`` objects.

    Args:
        path: file of at most 1 MiB with 1 to 256 keywords, UTF-8.

    Returns:
        Name to :class:`Keyword`, in the order of the file. Nothing is merged with the package's
        own table; write ``{**KEYWORDS, **load_keywords(path)}`` for both.

    Raises:
        ConfigError: the file cannot be read, is no such list, or a keyword is invalid.
    """
    entries = _read_json(Path(path))
    if not isinstance(entries, list) or not 1 <= len(entries) <= _MAX_KEYWORDS:
        raise ConfigError(
            f"keyword table '{path}' must be a JSON list of 1 to {_MAX_KEYWORDS} objects; see "
            "lreorg_fast/data/keywords.json for an example"
        )
    table: dict[str, Keyword] = {}
    for index, entry in enumerate(entries):
        keyword = _keyword_from_json(entry, f"entry {index} of keyword table '{path}'")
        if keyword.name in table:
            raise ConfigError(
                f"keyword table '{path}' has '{keyword.name}' twice; names must differ, so remove "
                "or rename one"
            )
        table[keyword.name] = keyword
    return table


def check_selection(
    hide: Iterable[str], keep: Iterable[str], available: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Check which keywords to hide and which to keep.

    Args:
        hide: names to anonymize, in order (the order is part of the result).
        keep: names to recover from the original, in order.
        available: names that the bundle or network knows.

    Returns:
        ``hide`` and ``keep`` as tuples.

    Raises:
        ConfigError: a name is unknown, repeated, or in both.
    """
    hidden = _checked_names("hide", hide, available)
    kept = _checked_names("keep", keep, available)
    both = [name for name in hidden if name in kept]
    if both:
        raise ConfigError(
            f"hide and keep both name {', '.join(both)}, but a keyword is either hidden or kept; "
            "remove it from one of them"
        )
    return hidden, kept


def keyword_features(keywords: Iterable[str | Keyword], clip: TextEncoder) -> dict[str, Any]:
    """The feature of each keyword's own name, as CDFNet takes it.

    Args:
        keywords: names or :class:`Keyword` objects; a table such as :data:`KEYWORDS` will do.
        clip: an object whose ``text(list of N texts)`` gives an (N, dim) float tensor.

    Returns:
        Name to an L2-normalised (dim,) tensor of the encoder's dtype and device.

    Raises:
        ConfigError: no keywords, a wrong shape, or a feature that is zero or not finite.
    """
    names = [item.name if isinstance(item, Keyword) else item for item in keywords]
    if not names:
        raise ConfigError(
            "keywords is empty, but needs at least one name; pass for example KEYWORDS"
        )
    features = clip.text(names)
    if features.ndim != 2 or features.shape[0] != len(names):
        raise ConfigError(
            f"the text encoder gave shape {tuple(features.shape)} for {len(names)} texts, but "
            f"({len(names)}, dim) is needed; pass a CLIP text tower"
        )
    lengths = (features * features).sum(-1) ** 0.5
    result = {}
    for name, feature, length in zip(names, features, lengths, strict=True):
        if not 0.0 < float(length) < float("inf"):
            raise ConfigError(
                f"the text feature of keyword '{name}' has length {float(length)}, but must be "
                "finite and above 0; check the CLIP weights"
            )
        result[name] = feature / length
    return result


def _checked_names(field: str, names: Iterable[str], available: Collection[str]) -> tuple[str, ...]:
    allowed = f"allowed are {', '.join(available)}"
    if isinstance(names, str):
        raise ConfigError(f"{field} is the text {_shown(names)}, but must be a list; {allowed}")
    checked = tuple(names)
    for name in checked:
        if not isinstance(name, str) or name not in available:
            raise ConfigError(f"{field} names {_shown(name)}, which is unknown; {allowed}")
    repeated = sorted({name for name in checked if checked.count(name) > 1})
    if repeated:
        raise ConfigError(
            f"{field} names {', '.join(repeated)} more than once; name each once, {allowed}"
        )
    return checked


def _read_json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"keyword table '{path}' cannot be read ({error.strerror}); check the path"
        ) from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(
            f"keyword table '{path}' is larger than {_MAX_FILE_BYTES} bytes; shorten it"
        )
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object_without_repeats)
    # RecursionError: thousands of nested brackets fit in the size limit.
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"keyword table '{path}' is not valid UTF-8 JSON; see lreorg_fast/data/keywords.json "
            "for an example"
        ) from error


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a field is given twice")
    return result


def _keyword_from_json(entry: Any, where: str) -> Keyword:
    if not isinstance(entry, dict) or "name" not in entry or set(entry) - set(_FIELDS):
        raise ConfigError(
            f"{where} is {_shown(entry)}, but must be an object with the field 'name' and at most "
            f"the fields {', '.join(_FIELDS)}; correct it"
        )
    return Keyword(**entry)


def _check_text(what: str, text: object) -> None:
    if (
        not isinstance(text, str)
        or not 1 <= len(text) <= _MAX_TEXT
        or not text.isprintable()
        or text != text.strip()
    ):
        raise ConfigError(
            f"{what} is {_shown(text)}, but must be 1 to {_MAX_TEXT} printable characters without "
            "spaces at the ends; correct it"
        )


def _shown(value: object) -> str:
    """A value as an error message shows it: one line, short, whatever a hostile file holds."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


KEYWORDS: Mapping[str, Keyword] = MappingProxyType(
    load_keywords(Path(__file__).with_name("data") / "keywords.json")
)
