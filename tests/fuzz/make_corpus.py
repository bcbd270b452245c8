"""Makes tests/data/fuzz anew: one or more small valid files for each reader.

Usage: python tests/fuzz/make_corpus.py. Names that begin with ``good`` must be accepted. Files
that a fuzzer finds are added by hand, under a name that says what they are.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from readers import CORPUS, OUTPUT, PASSPHRASE, PRIVATE_KEY

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.faces.detection import Detection
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.privacy import (
    Ledger,
    LedgerFile,
    Original,
    PassphraseCost,
    PrivateKey,
    Pseudonyms,
    seal,
)
from lreorg_fast.privacy.seal_bodies import packed as packed_body
from lreorg_fast.privacy.seal_sets import SectionSealer, SetHeader
from lreorg_fast.privacy.subjects import picture_digest
from lreorg_fast.scene.sealed import Blending, Place, SealedCrop, SealedFeature
from lreorg_fast.training.config import config_to_json, preset
from lreorg_fast.weights import BundleManifest, Domain, Part, write_bundle
from lreorg_fast.weights.tensors import write_tensors

Files = Iterator[tuple[str, bytes]]


def pictures() -> Files:
    pixels = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
    for name in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, name)
        yield f"picture/good_{name.lower()}", encoded.getvalue()
    for mode in ("1", "P", "LA"):
        encoded = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(encoded, "PNG")
        yield f"picture/good_mode_{mode}", encoded.getvalue()


def weights(folder: Path) -> Files:
    values = {"a": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.bfloat16)}
    for legacy in (False, True):
        encoded = io.BytesIO()
        torch.save(values, encoded, _use_new_zipfile_serialization=not legacy)
        yield f"checkpoint/good_{'legacy' if legacy else 'zip'}", encoded.getvalue()
    write_tensors(folder / "t", values, {"architecture": "a"})
    content = (folder / "t").read_bytes()
    yield "checkpoint/good_safetensors", content
    yield "tensors/good", content
    manifest = BundleManifest(
        name="fuzz",
        license="Apache-2.0",
        domain=Domain("avatars", 64, "for a corpus"),
        parts={"tables": Part("tables", "tables.safetensors")},
        keywords=tuple(KEYWORDS.values()),
        calibration={"verify.similarity": 0.5},
    )
    root = write_bundle(folder / "b", manifest, {"tables.safetensors": values}).root
    yield "bundle/good", (root / "bundle.json").read_bytes()
    net = CDFNet(CDFNetConfig(8, 4, num_blocks=1, growth=2))
    for dtype in ("float32", "int8"):
        yield f"packed/good_{dtype}", packed(net, dtype)


def packed(net: CDFNet, dtype: str) -> bytes:
    from lreorg_fast._native import PackedWeights
    from lreorg_fast.cdfnet.folding import fold

    return PackedWeights.pack(
        **net.config.to_dict(),
        dtype=dtype,
        tensors=fold(net).tensors(),
    ).to_bytes()


def tables() -> Files:
    one = {"name": "hat", "contents": ["a hat", "no hat"], "template": "a face with {}"}
    yield "keywords/good", json.dumps([one]).encode()
    yield "training/good", json.dumps(config_to_json(preset("paper"))).encode()
    registry = json.loads((Path(__file__).parents[2] / "lreorg_fast/data/weights.json").read_text())
    files = registry["files"]
    few = dict(list(files.items())[:2]) if isinstance(files, dict) else files[:2]
    yield "registry/good", json.dumps(registry | {"files": few}).encode()


def secrets(folder: Path) -> Files:
    ledger = LedgerFile(folder / "ledger", 2.0)
    ledger.spend(ledger.track_of("picture", b"x"), 1.0)
    yield "ledger/good", (folder / "ledger").read_bytes()
    saved = Ledger(2.0)
    saved.spend("face-0", 1.0)
    saved.save(folder / "saved")
    yield "saved_ledger/good", (folder / "saved").read_bytes()
    Pseudonyms(folder / "people", create=True).sampler("a")
    yield "pseudonyms/good", (folder / "people").read_bytes()
    key = PrivateKey(PRIVATE_KEY)
    cheap = PassphraseCost(iterations=1, lanes=1, memory_kib=8)
    for name, passphrase in (("plain", None), ("protected", PASSPHRASE)):
        key.save(folder / name, passphrase, cheap)
        yield f"private_key/good_{name}", (folder / name).read_bytes()
    key.public.save(folder / "public")
    yield "public_key/good", (folder / "public").read_bytes()
    features = {"identity": np.ones((2, 4), np.float32)}
    for kind, item in (("feature", Original(features=features)), ("crop", Original(crop=OUTPUT))):
        yield f"seal/good_{kind}", seal(item, OUTPUT, "face-0", key.public)


def seal_sets() -> Files:
    key = PrivateKey(PRIVATE_KEY).public
    place = Place(
        Detection(np.array([0.0, 0, 3, 3]), 0.9, np.arange(10.0).reshape(5, 2)),
        np.array([[0.0, 0], [0, 4], [4, 4], [4, 0]]),
    )
    features = {"identity": np.ones((2, 4), np.float32)}
    feature = SealedFeature(place, features, Blending(0.2, True))
    crop = SealedCrop(1, 1, OUTPUT[:2, :2])
    for kind, face in (("feature", feature), ("crop", crop)):
        header = SetHeader.fresh(kind, "picture", 1)
        section = SectionSealer(header, 0, "face-0", key)
        content = section.head + section.last(face.body, picture_digest(OUTPUT))
        yield f"seal_set/good_{kind}", header.raw + content
    description = {
        "rows": 1,
        "people": 1,
        "keywords": [["identity", 2, 4]],
        "blending": [0.2, True],
    }
    row = np.concatenate([[0.0, 0.0], place.row])[None]
    bodies = (
        feature.body,
        crop.body,
        packed_body(description, [row, features["identity"]]),
        packed_body([[0, 1, 1, 2, 2]], [OUTPUT[:2, :2]]),
    )
    for number, body in enumerate(bodies):
        yield f"seal_body/good_{number}", bytes([number]) + body
    yield "people/good", b"file,person,x,y,seconds\nfile,Anna,1,2,\nb.mp4,Ben,1.5,2,0.5\n"


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for files in (
            pictures(),
            weights(Path(folder)),
            tables(),
            secrets(Path(folder)),
            seal_sets(),
        ):
            for name, content in files:
                path = CORPUS / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                print(f"{len(content):6d} {path.relative_to(CORPUS)}")


if __name__ == "__main__":
    main()
