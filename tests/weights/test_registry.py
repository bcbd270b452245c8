"""The registry of published files: the packaged one, and what a wrong one is told."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import lreorg_fast.weights as library
from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.weights.registry import (
    COMMERCIAL_USE,
    PURPOSES,
    published_file,
    published_files,
    read_registry,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "weights.md"


@pytest.fixture
def table() -> dict[str, Any]:
    path = resources.files("lreorg_fast") / "data" / "weights.json"
    return json.loads(path.read_text("utf-8"))


def test_every_purpose_has_a_file() -> None:
    assert {file.purpose for file in published_files().values()} == set(PURPOSES)


@pytest.mark.parametrize("name", published_files())
def test_a_packaged_entry_is_usable(name: str) -> None:
    file = published_file(name)
    assert all(mirror.startswith("https://") for mirror in file.mirrors)
    assert any(source.startswith("https://") for source in file.source)
    assert file.licence.commercial in COMMERCIAL_USE
    # Where there are several copies, only a digest can tell that they are the same.
    assert file.sha256 is not None or len(file.mirrors) <= 1


def test_what_the_specification_publishes() -> None:
    known = {
        "stylegan2-ffhq-1024": (
            381462551,
            "bae494ef77e32a9cd1792a81a3c167692a0e64f6bcd8b06592ff42917e2ed46e",
        ),
        "e4e-ffhq-1024": (
            1201649680,
            "2ace1d9a8c05c10a399bcd500b8dda118f759ff1aac89dbdab7435f2136a0999",
        ),
    }
    for name, expected in known.items():
        assert (published_file(name).bytes, published_file(name).sha256) == expected


def test_files_of_ffhq_and_insightface_may_not_be_sold() -> None:
    for file in published_files().values():
        if "ffhq" in file.name or file.architecture == "iresnet":
            assert file.licence.commercial == "no"
            assert file.licence.must_be_accepted


def test_every_entry_has_a_loader_and_no_two_the_same_digest() -> None:
    digests = [file.sha256 for file in published_files().values() if file.sha256]
    assert len(digests) == len(set(digests))
    for file in published_files().values():
        assert callable(getattr(library, file.loader)), file.name


WRONG = [
    ({"name": "Has Capitals"}, "name is 'Has Capitals'"),
    ({"name": "../up"}, "lower-case words"),
    ({"file": "../evil.pt"}, "a plain file name"),
    ({"file": ".hidden"}, "a plain file name"),
    ({"file": "nosuffix"}, "a plain file name"),
    ({"purpose": "swapping"}, "one of generator, encoder"),
    ({"bytes": 0}, "bytes is 0"),
    ({"bytes": True}, "bytes is True"),
    ({"sha256": "ABC"}, "64 lower-case hex digits"),
    ({"mirrors": "https://one"}, "a list of texts"),
    ({"mirrors": ["file:///etc/passwd"]}, "web addresses"),
    ({"mirrors": []}, "exactly where there are no mirrors"),
    ({"by_hand": "somewhere"}, "exactly where there are no mirrors"),
    ({"source": []}, "at least one place"),
    ({"title": "a\x1b[31m"}, "a printable text"),
    ({"licence": {"name": "MIT"}}, "an object of exactly commercial, limits, name"),
    ({"licence": {"name": "MIT", "commercial": "maybe", "limits": "none"}}, "yes, no, unknown"),
    ({"more": 1}, "an object of exactly"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_entry_is_refused(
    table: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    table["files"][0].update(change)
    with pytest.raises(ConfigError, match=message):
        read_registry(json.dumps(table))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "not an object of format"),
        ('{"format": "lreorg-weights", "version": 2, "files": []}', "reads lreorg-weights version"),
        ('{"format": "lreorg-weights", "version": 1, "files": {}}', "not a list"),
        ('{"format": "lreorg-weights", "version": 1, "files": [3]}', "an object of exactly"),
    ],
)
def test_a_wrong_registry_is_refused(content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_registry(content)


def test_a_name_twice_is_refused(table: dict[str, Any]) -> None:
    table["files"].append(table["files"][0])
    with pytest.raises(ConfigError, match="same name"):
        read_registry(json.dumps(table))


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(CheckpointError, match=r"known are stylegan2-ffhq-1024, .*give its path"):
        published_file("nothing")


def rows() -> list[str]:
    """The generated lines of docs/weights.md: a table of all files, then each one's facts."""
    result = [
        "| name | for | read by | commercial use | SHA-256 known | got from | checked with |",
        "|---|---|---|---|---|---|---|",
    ]
    for file in published_files().values():
        known = "no" if file.sha256 is None else "yes"
        got = "by hand" if file.by_hand else "fetch"
        result.append(
            f"| `{file.name}` | {file.purpose} | `{file.loader}` | {file.licence.commercial} "
            f"| {known} | {got} | {file.checked} |"
        )
    for purpose, meaning in PURPOSES.items():
        files = [file for file in published_files().values() if file.purpose == purpose]
        result.append(f"### {purpose}: {meaning}")
        for file in files:
            size = "size not known" if file.bytes is None else f"{file.bytes:,} bytes"
            where = " or ".join(f"<{mirror}>" for mirror in file.mirrors) or file.by_hand
            result += [
                f"**`{file.name}`**: {file.title}.",
                f"- file: `{file.file}`, {size}, SHA-256 {file.sha256 or 'not known'}; read by "
                f"`{file.loader}` as `{file.architecture}`",
                f"- licence: {file.licence.name}. Commercial use: {file.licence.commercial}. "
                f"{file.licence.limits}",
                f"- from: {where}",
                f"- authors: {file.repository}; {file.paper}",
                f"- facts from: {', '.join(file.source)}",
            ]
    return result


def test_the_document_says_what_the_registry_says() -> None:
    text = DOCUMENT.read_text("utf-8")
    begin, end = "<!-- begin: from data/weights.json -->\n", "<!-- end -->\n"
    section = text[text.index(begin) + len(begin) : text.index(end)]
    assert [line for line in section.splitlines() if line] == rows()
