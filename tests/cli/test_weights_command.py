"""``lreorg weights``: what it prints, what it asks, and its exit codes."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import weights_server
from weights_server import Resource, Server

import lreorg_fast.weights as library
from lreorg_fast.models.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from lreorg_fast.weights import registry
from lreorg_fast.weights.registry import published_files

CONTENT = b"some weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FREE, LIMITED, FIRST_USE, BY_HAND = (
    "clip-vit-b32-laion2b",
    "fid-inception",
    "vgg-face",
    "adaface-ir50-ms1mv2",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LREORG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LREORG_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A registry whose files lie on a server of our own."""
    with weights_server.running(monkeypatch) as behaviour:
        url = behaviour.url("/file")
        behaviour.resources["/file"] = Resource(CONTENT)
        files = dict(published_files())
        for name in (FREE, LIMITED):
            changes: dict[str, Any] = {"mirrors": (url,), "bytes": len(CONTENT)}
            files[name] = replace(files[name], sha256=SHA256 if name == LIMITED else None)
            files[name] = replace(files[name], **changes)
        files[FIRST_USE] = replace(files[FIRST_USE], mirrors=(url,))
        monkeypatch.setattr(registry, "_packaged", lambda: files)
        monkeypatch.setattr(library, "fetch", partial(library.fetch, allow_local_http=True))
        yield behaviour


def test_list_shows_everything_and_what_is_forbidden(run) -> None:
    result = run("weights", "list")
    assert result.exit_code == 0
    assert result.stderr == ""
    for file in published_files().values():
        assert file.name in result.stdout
        assert file.licence.name in result.stdout
    assert result.stdout.count("missing") == len(published_files())


def test_list_for_a_program(run) -> None:
    content = json.loads(run("weights", "list", "--json").stdout)
    assert [file["name"] for file in content] == list(published_files())
    assert content[0]["state"] == "missing"
    assert content[0]["path"] is None
    assert content[0]["licence"]["commercial"] == "no"


def test_fetch_prints_the_path_and_shows_the_licence_first(
    run, server: Server, cache: Path
) -> None:
    result = run("weights", "fetch", LIMITED, "--accept-licence")
    assert result.exit_code == 0
    path = Path(result.stdout.strip())
    assert path.read_bytes() == CONTENT
    assert cache in path.parents
    assert published_files()[LIMITED].licence.limits in result.stderr
    assert run("weights", "path", LIMITED).stdout == result.stdout
    listed = json.loads(run("weights", "list", "--json").stdout)
    assert [file["path"] for file in listed if file["state"] == "here"] == [str(path)]


def test_without_a_terminal_a_licence_needs_the_option(run, server: Server) -> None:
    result = run("weights", "fetch", LIMITED)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "limits: " in result.stderr
    assert "--accept-licence" in result.stderr.splitlines()[-1]
    assert not server.requests


@pytest.mark.parametrize(("answer", "code"), [(True, 0), (False, 2)])
def test_on_a_terminal_it_is_asked(
    run, server: Server, monkeypatch: pytest.MonkeyPatch, answer: bool, code: int
) -> None:
    import click

    questions: list[str] = []

    def confirm(text: str, **_: object) -> bool:
        questions.append(text)
        return answer

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(click, "confirm", confirm)
    monkeypatch.setattr("lreorg_fast.cli.weights.sys", type("S", (), {"stdin": Terminal()}))
    assert run("weights", "fetch", LIMITED).exit_code == code
    assert questions == ["Do you accept this?"]
    assert len(server.requests) == (1 if answer else 0)
    assert sys.stdin is not None


def test_a_free_licence_is_shown_and_not_asked_for(run, server: Server) -> None:
    result = run("weights", "fetch", FREE)
    assert result.exit_code == 0
    assert "licence: MIT" in result.stderr


def test_first_use_is_told(run, server: Server) -> None:
    result = run("weights", "fetch", FIRST_USE, "--accept-licence")
    assert result.exit_code == 0
    assert f"SHA-256 {SHA256} is recorded" in result.stderr
    again = run("weights", "fetch", FIRST_USE)
    assert again.stdout == result.stdout
    assert again.stderr == ""


def test_offline_says_what_is_missing(run, server: Server) -> None:
    for arguments, variables in ((("--offline",), {}), ((), {"LREORG_OFFLINE": "1"})):
        result = run("weights", "fetch", LIMITED, *arguments, **variables)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert f"get it with: lreorg weights fetch {LIMITED}" in result.stderr
    assert not server.requests


def test_by_hand_is_explained(run) -> None:
    result = run("weights", "fetch", BY_HAND, "--accept-licence")
    assert result.exit_code == 2
    assert "drive.google.com" in result.stderr
    assert f"lreorg weights add FILE --as {BY_HAND}" in result.stderr


def test_a_misspelt_name_fetches_nothing(run, server: Server) -> None:
    result = run("weights", "fetch", FREE, "clip")
    assert result.exit_code == 2
    assert FREE in result.stderr
    assert not server.requests


def test_add_by_content_and_verify(run, server: Server, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "my download").write_bytes(CONTENT)
    result = run("weights", "add", tmp_path / "my download")
    assert result.exit_code == 0
    assert f"{LIMITED}: " in result.stderr
    assert run("weights", "path", LIMITED).stdout == result.stdout
    good = run("weights", "verify")
    assert good.exit_code == 0
    assert "as published" in good.stdout
    Path(result.stdout.strip()).write_bytes(CONTENT[::-1])
    bad = run("weights", "verify")
    assert bad.exit_code == 1
    assert f"{LIMITED} is damaged" in bad.stderr
    content = json.loads(run("weights", "verify", LIMITED, FREE, "--json").stdout)
    assert [one["state"] for one in content] == ["damaged", "missing"]


def test_add_refuses_another_file(run, server: Server, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"x")
    result = run("weights", "add", tmp_path / "other.pth", "--as", LIMITED)
    assert result.exit_code == 2
    assert f"the one published is {SHA256}" in result.stderr


def test_convert_prints_what_it_wrote(run, tmp_path: Path) -> None:
    config = StyleGAN2Config(resolution=8, style_dim=8, mapping_layers=1, channels={4: 4, 8: 4})
    torch.save({"g_ema": StyleGAN2Generator(config).state_dict()}, tmp_path / "g.pt")
    target = tmp_path / "g.safetensors"
    result = run("weights", "convert", tmp_path / "g.pt", "-o", target)
    assert result.exit_code == 0
    assert "stylegan2" in result.stdout
    assert run("weights", "convert", tmp_path / "g.pt", "-o", target).exit_code == 2
    again = run("weights", "convert", tmp_path / "g.pt", "-o", target, "--force", "--json")
    content = json.loads(again.stdout)
    assert (content["path"], content["architecture"]) == (str(target), "stylegan2")
    assert content["config"]["resolution"] == 8
    wrong = run("weights", "convert", target, "-o", target, "--force", "--part", "encoder")
    assert wrong.exit_code == 2


def test_verify_of_nothing(run) -> None:
    result = run("weights", "verify")
    assert (result.exit_code, result.stdout) == (0, "the cache is empty\n")


def test_quiet_and_debug_are_taken_after_the_verb(run, server: Server) -> None:
    assert run("weights", "fetch", FREE, "-q").exit_code == 0
    result = run("weights", "path", "nothing", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


@pytest.mark.parametrize("verb", ["list", "fetch", "add", "verify", "convert", "path"])
def test_every_verb_has_help(run, verb: str) -> None:
    result = run("weights", verb, "--help")
    assert result.exit_code == 0
    assert f"lreorg weights {verb}" in result.stdout
    assert f"  {verb}" in run("weights", "--help").stdout
