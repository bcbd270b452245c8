"""Keywords as data: the paper's table, a user's own table, and hostile ones."""

from __future__ import annotations

import json

import pytest
import torch

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import (
    DEFAULT_HIDE,
    DEFAULT_KEEP,
    KEYWORDS,
    Keyword,
    check_selection,
    keyword_features,
    load_keywords,
)


def test_table_one_of_the_paper():
    assert {name: keyword.contents for name, keyword in KEYWORDS.items()} == {
        "identity": (),
        "gender": ("male", "female"),
        "age": ("young", "old"),
        "expression": ("smiling", "not smiling"),
        "makeup": ("heavy", "no"),
        "color": ("blond", "black", "brown", "gray"),
        "curly": ("curly", "straight"),
        "length": ("long", "short"),
    }
    assert KEYWORDS["identity"].template is None
    assert KEYWORDS["identity"].sentences == ()
    assert KEYWORDS["gender"].sentences == ("a photo of a male.", "a photo of a female.")
    assert KEYWORDS["expression"].sentences[1] == "a photo of a not smiling person."
    assert KEYWORDS["makeup"].sentences[0] == "a photo of a person with heavy makeup."
    assert KEYWORDS["length"].sentences[1] == "a photo of a person with short hair."
    assert lf.KEYWORDS is KEYWORDS


def test_defaults_are_a_valid_selection():
    assert check_selection(DEFAULT_HIDE, DEFAULT_KEEP, KEYWORDS) == (DEFAULT_HIDE, DEFAULT_KEEP)


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        KEYWORDS["identity"] = KEYWORDS["age"]
    with pytest.raises(AttributeError):
        KEYWORDS["age"].name = "years"


@pytest.mark.parametrize(
    ("name", "contents", "template"),
    [
        ("", (), None),
        ("Age", (), None),
        ("a b", (), None),
        ("age\n", (), None),
        ("../age", (), None),
        ("a" * 33, (), None),
        (None, (), None),
        ("glasses", ("with",), "a photo of a person {} glasses."),
        ("glasses", ("with", "with"), "a photo of a person {} glasses."),
        ("glasses", ("with", ""), "a photo of a person {} glasses."),
        ("glasses", ("with", " without"), "a photo of a person {} glasses."),
        ("glasses", ("with", "out\x00"), "a photo of a person {} glasses."),
        ("glasses", ("with", "{}"), "a photo of a person {} glasses."),
        ("glasses", ("with", 3), "a photo of a person {} glasses."),
        ("glasses", "ab", "a photo of a person {} glasses."),
        ("glasses", tuple(str(i) for i in range(65)), "a photo of a person {} glasses."),
        ("glasses", ("with", "without"), None),
        ("glasses", ("with", "without"), "a photo of a person."),
        ("glasses", ("with", "without"), "{} and {}"),
        ("glasses", ("with", "without"), "{0} {}"),
        ("glasses", ("with", "without"), "a {} }"),
        ("glasses", ("with", "without"), "{" * 50 + "{}"),
        ("glasses", ("with", "without"), "{}" + "x" * 200),
        ("glasses", ("with", "without"), 5),
        ("glasses", (), "a photo of a {}."),
    ],
)
def test_invalid_keywords_are_refused_in_one_short_sentence(name, contents, template):
    with pytest.raises(ConfigError) as refused:
        Keyword(name, contents, template)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_user_adds_a_keyword_with_a_file(tmp_path):
    path = tmp_path / "mine.json"
    entry = {"name": "glasses", "contents": ["with", "without"], "template": "a face {} glasses."}
    path.write_text(json.dumps([entry, {"name": "pose"}]))
    table = load_keywords(path)
    assert table["glasses"].sentences == ("a face with glasses.", "a face without glasses.")
    assert table["pose"] == Keyword("pose")
    assert check_selection(["identity"], ["glasses"], {**KEYWORDS, **table})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe[]",
        b"{}",
        b"[]",
        b"[1]",
        b"[" * 100_000,
        b"9" * 5_000,
        b'["identity"]',
        b"[{}]",
        b'[{"name": 1}]',
        b'[{"name": "a", "kind": "b"}]',
        b'[{"name": "a", "name": "b"}]',
        b'[{"name": "a"}, {"name": "a"}]',
        b'[{"name": "a", "contents": null}]',
        b'[{"name": "a", "contents": {"x": 1}}]',
        json.dumps([{"name": f"k{i}"} for i in range(257)]).encode(),
        b" " * (1 << 20) + b"[]",
    ],
    ids=lambda content: content[:30].decode("utf-8", "replace"),
)
def test_hostile_tables_are_refused(content, tmp_path):
    path = tmp_path / "keywords.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load_keywords(path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json"):
        load_keywords(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_keywords(tmp_path)


@pytest.mark.parametrize(
    ("hide", "keep", "message"),
    [
        (["identty"], [], "hide names 'identty'"),
        (["identity"], ["hair"], "keep names 'hair'"),
        (["identity", "identity"], [], "more than once"),
        (["identity"], ["age", "age"], "more than once"),
        (["identity", "age"], ["gender", "age"], "both name age"),
        ("identity", [], "must be a list"),
        (["identity"], "age", "must be a list"),
        ([None], [], "unknown"),
    ],
)
def test_bad_selections_are_refused(hide, keep, message):
    with pytest.raises(ConfigError, match=message) as refused:
        check_selection(hide, keep, KEYWORDS)
    assert "expression" in str(refused.value) or "both" in message


def test_selection_keeps_its_order():
    keep = ["makeup", "gender", "age"]
    assert check_selection(["identity"], iter(keep), KEYWORDS) == (("identity",), tuple(keep))


class LengthEncoder:
    """A stand-in for CLIP: every text has its own feature of length above 1."""

    def text(self, sentences: list[str]) -> torch.Tensor:
        return torch.tensor([[float(len(text)), float(ord(text[0])), 2.0] for text in sentences])


def test_keyword_features_are_the_unit_features_of_the_names():
    features = keyword_features(KEYWORDS, LengthEncoder())
    assert list(features) == list(KEYWORDS)
    expected = torch.nn.functional.normalize(torch.tensor([8.0, 105.0, 2.0]), dim=0)
    assert torch.equal(features["identity"].round(decimals=5), expected.round(decimals=5))
    by_object = keyword_features([KEYWORDS["age"]], LengthEncoder())
    assert torch.equal(by_object["age"], features["age"])


@pytest.mark.parametrize(
    "features",
    [torch.zeros(2, 4), torch.full((2, 4), torch.nan), torch.ones(3, 4), torch.ones(4)],
    ids=["zero", "nan", "too many", "flat"],
)
def test_a_broken_text_encoder_is_refused(features):
    class Broken:
        def text(self, sentences: list[str]) -> torch.Tensor:
            return features

    with pytest.raises(ConfigError):
        keyword_features(["identity", "age"], Broken())


def test_no_keywords_have_no_features():
    with pytest.raises(ConfigError, match="empty"):
        keyword_features([], LengthEncoder())
