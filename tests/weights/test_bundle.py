from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lreorg_fast
from lreorg_fast.errors import BundleError, OutputError
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.weights import (
    Bundle,
    BundleFile,
    BundleManifest,
    Domain,
    Part,
    open_bundle,
    write_bundle,
)

WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.5], dtype=torch.float16)}


def manifest(**changes: Any) -> BundleManifest:
    content: dict[str, Any] = {
        "name": "test",
        "license": "Apache-2.0",
        "domain": Domain("avatars", 64, "drawn faces"),
        "parts": {
            "generator": Part(
                "stylegan2", "generator.safetensors", {"size": 64, "channels": [1, 2]}
            ),
            "identity:training": Part("arcface", "identity_training.safetensors"),
        },
        "keywords": (KEYWORDS["identity"], KEYWORDS["gender"]),
        "calibration": {"threshold": 0.5, "groups": 256},
        "recipe": {"command": "test", "seeds": [1, 2]},
        "figures": {"psr": {"value": 0.99, "n": 1000}},
    }
    return BundleManifest(**{**content, **changes})


def files() -> dict[str, Any]:
    return {
        "generator.safetensors": WEIGHTS,
        "identity_training.safetensors": {"w": torch.ones(2)},
        "notes.txt": b"hello",
    }


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle", manifest(), files())


def test_round_trip(bundle: Bundle) -> None:
    again = open_bundle(bundle.root)
    assert again.manifest == bundle.manifest
    assert dataclasses.replace(again.manifest, files={}) == manifest(created=again.manifest.created)
    assert again.manifest.package_version == lreorg_fast.__version__
    tensors = again.tensors("generator")
    assert all(torch.equal(tensors[name], value) for name, value in WEIGHTS.items())
    assert again.tensors("identity:training")["w"].tolist() == [1, 1]
    assert again.read("notes.txt") == b"hello"
    assert again.part("generator").config == {"size": 64, "channels": [1, 2]}
    again.verify()


def test_only_what_was_asked_is_in_the_folder(bundle: Bundle) -> None:
    assert sorted(os.listdir(bundle.root)) == ["bundle.json", *sorted(files())]
    assert os.listdir(bundle.root.parent) == ["bundle"]


def test_a_path_as_text_and_a_relative_path(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_bundle(str(bundle.root)).manifest == bundle.manifest
    monkeypatch.chdir(bundle.root.parent)
    assert open_bundle("bundle").manifest == bundle.manifest


def test_expected_tensors(bundle: Bundle) -> None:
    bundle.tensors("generator", {"w": ((2, 3), torch.float32), "b": ((1,), None)})
    with pytest.raises(BundleError, match=r"generator.safetensors.*missing: c"):
        bundle.tensors("generator", {"w": ((2, 3), None), "b": ((1,), None), "c": ((1,), None)})


def test_unknown_roles_and_files_name_what_exists(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no part 'encoder'; it has generator, identity:training"):
        bundle.tensors("encoder")
    with pytest.raises(BundleError, match=r"does not list the file '\.\./secret'"):
        bundle.read("../secret")


@pytest.mark.parametrize("role", ["generator", "identity:training"])
def test_every_changed_byte_is_found(bundle: Bundle, role: str) -> None:
    path = bundle.root / bundle.part(role).file
    whole = path.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(BundleError):
            bundle.tensors(role)
    with pytest.raises(BundleError, match="changed or damaged"):
        bundle.verify()


@pytest.mark.parametrize("change", [lambda c: c + b"\0", lambda c: c[:-1], lambda c: b""])
def test_another_size_is_refused(bundle: Bundle, change: Callable[[bytes], bytes]) -> None:
    for name in files():
        path = bundle.root / name
        path.write_bytes(change(path.read_bytes()))
    for attempt in (
        bundle.verify,
        lambda: bundle.read("notes.txt"),
        lambda: bundle.tensors("generator"),
    ):
        with pytest.raises(BundleError, match="bytes and not"):
            attempt()


def test_same_size_other_content_is_refused(bundle: Bundle) -> None:
    (bundle.root / "notes.txt").write_bytes(b"jello")
    with pytest.raises(BundleError, match=r"notes\.txt' was changed or damaged"):
        bundle.read("notes.txt")


def test_links_missing_files_and_devices_are_refused(bundle: Bundle) -> None:
    path = bundle.root / "generator.safetensors"
    (bundle.root.parent / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    with pytest.raises(BundleError, match="No such file"):
        bundle.tensors("generator")
    path.symlink_to(bundle.root.parent / "elsewhere")
    with pytest.raises(BundleError, match="symbolic link"):
        bundle.tensors("generator")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match="not a regular file"):
        bundle.verify()


def test_places_without_a_bundle(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "bundle.json").symlink_to(bundle.root / "bundle.json")
    for name in ("missing", "", "link", "nul\0"):
        with pytest.raises(BundleError, match="is not a bundle"):
            open_bundle(tmp_path / name)


def test_the_demo_bundle_or_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    with pytest.raises(BundleError, match=r"python -m lreorg_fast\.avatars\.train"):
        open_bundle("demo")
    (tmp_path / "data").mkdir()
    written = write_bundle(tmp_path / "data" / "demo", manifest(), files())
    assert open_bundle("demo").manifest == written.manifest


# --- manifests by other people ------------------------------------------------------------


def _set(*way: Any) -> Callable[[dict[str, Any]], None]:
    *path, last, value = way

    def change(content: dict[str, Any]) -> None:
        for step in path:
            content = content[step]
        content[last] = value

    return change


def _drop(*way: Any) -> Callable[[dict[str, Any]], None]:
    *path, last = way

    def change(content: dict[str, Any]) -> None:
        for step in path:
            content = content[step]
        del content[last]

    return change


SHA = "0" * 64
HOSTILE_NAMES = [
    "../x", "/etc/passwd", "a/b", "a\\b", "..", ".", "", ".hidden", "a..b", "nul\0", "a\n",
    "bundle.json", "Bundle.JSON", "C:x", "~", "-x", "é", "a ", "x" * 200, "a.", "\u2024\u2024/x",
]  # fmt: skip
HOSTILE: dict[str, Callable[[dict[str, Any]], None]] = {
    **{f"file name {n!r:.20}": _set("files", n, {"sha256": SHA, "bytes": 1})
       for n in HOSTILE_NAMES},
    **{f"part's file {n!r:.20}": _set("parts", "generator", "file", n) for n in HOSTILE_NAMES},
    "part's file unlisted": _set("parts", "generator", "file", "other.safetensors"),
    "part's file a number": _set("parts", "generator", "file", 1),
    "files differ in case": _set("files", "NOTES.txt", {"sha256": SHA, "bytes": 1}),
    "digest short": _set("files", "notes.txt", "sha256", "00"),
    "digest upper case": _set("files", "notes.txt", "sha256", "A" * 64),
    "digest a number": _set("files", "notes.txt", "sha256", 0),
    "digest with newline": _set("files", "notes.txt", "sha256", SHA + "\n"),
    "size negative": _set("files", "notes.txt", "bytes", -1),
    "size huge": _set("files", "notes.txt", "bytes", 2**70),
    "size a float": _set("files", "notes.txt", "bytes", 5.0),
    "size true": _set("files", "notes.txt", "bytes", True),
    "file unknown field": _set("files", "notes.txt", "url", "http://x"),
    "file lacks field": _drop("files", "notes.txt", "bytes"),
    "files a list": _set("files", []),
    "format": _set("format", "other"),
    "format missing": _drop("format"),
    "version 2": _set("version", 2),
    "version text": _set("version", "1"),
    "version true": _set("version", True),
    "version float": _set("version", 1.0),
    "version missing": _drop("version"),
    "unknown field": _set("hook", "import os"),
    "field missing": _drop("license"),
    "name empty": _set("name", ""),
    "name a list": _set("name", []),
    "name an escape": _set("name", "\x1b]0;x\x07"),
    "name long": _set("name", "x" * 10_000),
    "created": _set("created", "yesterday"),
    "created without offset": _set("created", "2026-01-01T00:00:00"),
    "domain a text": _set("domain", "avatars"),
    "domain unknown field": _set("domain", "x", 1),
    "resolution zero": _set("domain", "resolution", 0),
    "resolution huge": _set("domain", "resolution", 10**9),
    "resolution text": _set("domain", "resolution", "64"),
    "parts a list": _set("parts", []),
    "role": _set("parts", "Generator", {"architecture": "a", "config": {}, "file": "notes.txt"}),
    "role a path": _set("parts", "a/b", {"architecture": "a", "config": {}, "file": "notes.txt"}),
    "part a text": _set("parts", "generator", "x"),
    "part unknown field": _set("parts", "generator", "pickle", "x"),
    "part lacks field": _drop("parts", "generator", "architecture"),
    "config a list": _set("parts", "generator", "config", []),
    "keywords an object": _set("keywords", {}),
    "keyword a text": _set("keywords", ["gender"]),
    "keyword without name": _set("keywords", [{"contents": [], "template": None}]),
    "keyword invalid": _set("keywords", [{"name": "x", "contents": ["one"], "template": "{}"}]),
    "keyword unknown field": _set("keywords", [{"name": "x", "y": 1}]),
    "keyword twice": _set("keywords", [{"name": "x"}, {"name": "x"}]),
    "calibration text": _set("calibration", "x", "1"),
    "calibration true": _set("calibration", "x", True),
    "calibration nested": _set("calibration", "x", {}),
    "calibration a list": _set("calibration", []),
    "calibration overflow": _set("calibration", "x", 10**400),
    "recipe a text": _set("recipe", "x"),
    "figures a list": _set("figures", []),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests_are_refused(bundle: Bundle, name: str) -> None:
    path = bundle.root / "bundle.json"
    content = json.loads(path.read_bytes())
    before = json.dumps(content)
    HOSTILE[name](content)
    assert json.dumps(content) != before
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle.root)
    assert len(str(caught.value)) < 700
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"format": "lreorg-bundle", "format": "lreorg-bundle"}', b'{"format": NaN}',
        b'{"format": "lreorg-bundle", "version": ' + b"1" * 6000 + b"}", b" " * (5 * 2**20),
    ],
)  # fmt: skip
def test_damaged_manifests_are_refused(bundle: Bundle, content: bytes) -> None:
    (bundle.root / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        open_bundle(bundle.root)


def test_a_repeated_file_name_is_refused(bundle: Bundle) -> None:
    path = bundle.root / "bundle.json"
    text = path.read_text()
    entry = json.dumps({"sha256": SHA, "bytes": 1})
    path.write_text(text.replace('"notes.txt":', f'"notes.txt": {entry}, "notes.txt":'))
    with pytest.raises(BundleError, match="appears twice"):
        open_bundle(bundle.root)


# --- writing ------------------------------------------------------------------------------


def test_an_existing_folder_stays_unless_it_is_a_bundle(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        write_bundle(bundle.root, manifest(name="new"), files())
    assert open_bundle(bundle.root).manifest.name == "test"
    replaced = write_bundle(bundle.root, manifest(name="new"), files(), overwrite=True)
    assert replaced.manifest.name == "new"
    assert os.listdir(tmp_path) == ["bundle"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    (tmp_path / "link").symlink_to(bundle.root)
    for name in ("photos", "link"):
        with pytest.raises(OutputError, match="is not a bundle and is not replaced"):
            write_bundle(tmp_path / name, manifest(), files(), overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        write_bundle(tmp_path / "missing" / "bundle", manifest(), files())
    assert sorted(os.listdir(tmp_path)) == ["bundle", "link", "photos"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, bundle: Bundle) -> None:
    for overwrite in (False, True):
        target = bundle.root if overwrite else tmp_path / "new"
        incomplete = {"generator.safetensors": WEIGHTS}
        with pytest.raises(BundleError, match=r"needs the file 'identity_training\.safetensors'"):
            write_bundle(target, manifest(), incomplete, overwrite)
    assert os.listdir(tmp_path) == ["bundle"]
    bundle.verify()


def test_an_interrupted_exchange_restores_the_old_bundle(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if (
            target == bundle.root
            and (self / "bundle.json").exists()
            and "new" in (self / "bundle.json").read_text()
        ):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="No space left"):
        write_bundle(bundle.root, manifest(name="new"), files(), overwrite=True)
    assert open_bundle(bundle.root).manifest.name == "test"
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="is not allowed"):
        write_bundle(tmp_path / "bundle", manifest(), {**files(), name: b"x"})
    assert os.listdir(tmp_path) == []


def test_values_that_json_would_change_are_refused() -> None:
    for value in ({"a": (1, 2)}, {1: "a"}, {"a": float("nan")}, {"a": object()}):
        with pytest.raises(BundleError, match="recipe must be a JSON object"):
            manifest(recipe=value)


def test_manifests_cannot_be_changed() -> None:
    for frozen in (manifest(), Domain("a", 1), Part("a", "b"), BundleFile(SHA, 1)):
        field = dataclasses.fields(frozen)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(frozen, field, "x")
