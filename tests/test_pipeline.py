"""The Anonymizer through its public interface, on a bundle of tiny random networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import RESOLUTION, toy_bundle
from PIL import Image

import lreorg_fast as lf
from lreorg_fast.errors import BundleError, ConfigError, ImageError
from lreorg_fast.media.pictures import FILL_COLOUR
from lreorg_fast.models.inference import network_dtype
from lreorg_fast.privacy import InsecureTestSampler, Ledger
from lreorg_fast.verification import Representation


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")


@pytest.fixture
def anonymizer(bundle: Path) -> lf.Anonymizer:
    return lf.Anonymizer.load(bundle)


@pytest.fixture(scope="module")
def undetected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without a face detector: its networks are the evidence."""
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "undetected", detector=False)


def pictures(count: int, size: int = RESOLUTION) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count)]


def is_filled(picture: np.ndarray) -> bool:
    return bool((picture == np.array(FILL_COLOUR, np.uint8)).all())


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], InsecureTestSampler]:
    monkeypatch.setenv("LREORG_INSECURE_TEST", "1")
    return lambda: InsecureTestSampler(3)


def test_one_face_in_one_face_out(anonymizer: lf.Anonymizer) -> None:
    source = pictures(1)[0]
    result = anonymizer(source)
    assert result.image.shape == source.shape
    assert result.image.dtype == np.uint8
    (face,) = result.faces
    assert (face.status, face.reason, face.epsilon) == ("replaced", None, 1.0)
    assert face.mechanism == {"identity": "window-rr"}
    assert not is_filled(result.image)
    assert face.recovery_key is None


def test_the_image_has_the_form_of_the_input(anonymizer: lf.Anonymizer) -> None:
    sources = pictures(2)
    assert anonymizer(np.stack(sources)).image.shape == (2, RESOLUTION, RESOLUTION, 3)
    assert anonymizer(sources[:1]).image.shape == (1, RESOLUTION, RESOLUTION, 3)
    mixed = anonymizer([sources[0], pictures(1, 16)[0]])
    assert [image.shape[0] for image in mixed.images] == [RESOLUTION, 16]
    with pytest.raises(AttributeError, match="images"):
        _ = mixed.image


@pytest.mark.parametrize("size", [16, 32, 100])
def test_the_size_of_the_input_is_kept(anonymizer: lf.Anonymizer, size: int) -> None:
    assert anonymizer(pictures(1, size)[0]).image.shape == (size, size, 3)


def test_every_accepted_form_gives_the_same(
    anonymizer: lf.Anonymizer, seeded: Callable[[], InsecureTestSampler]
) -> None:
    first, second = pictures(2)
    forms: list[Any] = [
        [first, second],
        np.stack([first, second]),
        (Image.fromarray(first), Image.fromarray(second)),
    ]
    results = [anonymizer(form, sampler=seeded()).images for form in forms]
    for images in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(images, results[0], strict=True))


def test_a_batch_is_its_faces_one_by_one(
    anonymizer: lf.Anonymizer, seeded: Callable[[], InsecureTestSampler]
) -> None:
    sources = pictures(3)
    sampler = seeded()
    together = anonymizer(sources, sampler=seeded()).images
    alone = [anonymizer(source, sampler=sampler).image for source in sources]
    for a, b in zip(together, alone, strict=True):
        # Untrained networks give extreme values, where rounding may flip a pixel.
        assert (a != b).mean() < 0.01


def test_more_faces_than_fit_one_batch(
    anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, seen = anonymizer.encoder.forward, []

    def counted(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return forward(x)

    monkeypatch.setattr(anonymizer.encoder, "forward", counted)
    result = anonymizer(pictures(70))
    assert [face.index for face in result.faces] == list(range(70))
    assert sum(seen) == 70
    assert max(seen) <= 32


def test_whoever_leaves_the_identity_is_told(
    anonymizer: lf.Anonymizer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lreorg_fast.log._said", set())
    anonymizer(pictures(1)[0])
    assert "recognisable" not in caplog.text
    anonymizer(pictures(1)[0], hide=["gender"])
    assert "the person stays recognisable" in caplog.text


def test_two_draws_of_one_face_differ_and_a_held_track_does_not(anonymizer: lf.Anonymizer) -> None:
    source = pictures(1)[0]
    fresh = {anonymizer(source).image.tobytes() for _ in range(8)}
    assert len(fresh) > 1  # all equal: chance below 1e-6
    held = anonymizer([source] * 4, tracks=["a"] * 4)
    assert len({image.tobytes() for image in held.images}) == 1
    assert anonymizer.ledger.total("a") == 1.0
    # Like with like: another batch size may flip a saturated pixel of an untrained generator.
    later = anonymizer([source] * 4, tracks=["a"] * 4)
    assert np.array_equal(later.image, held.image)
    single = [anonymizer(source, tracks=["a"]).image for _ in range(2)]
    assert np.array_equal(single[0], single[1])
    assert anonymizer.ledger.total("a") == 1.0


def test_settings_change_the_result(
    anonymizer: lf.Anonymizer, seeded: Callable[[], InsecureTestSampler]
) -> None:
    source = pictures(1)[0]

    def made(**settings: Any) -> bytes:
        return anonymizer(source, sampler=seeded(), **settings).image.tobytes()

    variants = [
        made(),
        made(keep=[]),
        made(keep=["expression"]),
        made(keep=["expression", "age"]),
        made(keep=["age", "expression"]),
        made(hide=["gender"]),
        made(hide=["gender"], attribute_rule="farthest"),
        made(hide=["identity", "gender"]),
        made(hide=["gender", "identity"]),
        made(mechanism="k-anonymity"),
        made(mechanism="laplace"),
        made(mechanism="laplace", epsilon=10.0),
    ]
    assert len(set(variants)) == len(variants)


def test_kept_by_default_is_everything_that_is_not_hidden(anonymizer: lf.Anonymizer) -> None:
    face = anonymizer(pictures(1)[0], hide=["identity", "age"]).faces[0]
    assert face.hidden == ("identity", "age")
    assert face.kept == ("gender", "expression", "makeup")
    assert face.mechanism["age"] == "uniform"


def test_epsilon_reported_is_what_was_paid(anonymizer: lf.Anonymizer) -> None:
    settings = {"attribute_rule": "randomized", "attribute_epsilon": 0.5}
    face = anonymizer(pictures(1)[0], hide=["identity", "age"], epsilon=2.0, **settings).faces[0]
    assert face.epsilon == 2.5
    assert anonymizer.ledger.total(face.track) == 2.5


def test_a_test_sampler_is_labelled_worthless(
    anonymizer: lf.Anonymizer, seeded: Callable[[], InsecureTestSampler]
) -> None:
    face = anonymizer(pictures(1)[0], sampler=seeded()).faces[0]
    assert face.epsilon == float("inf")
    assert face.to_dict()["epsilon"] == "inf"


def test_the_report_of_a_face_holds_nothing_of_the_face(anonymizer: lf.Anonymizer) -> None:
    face = anonymizer(pictures(1)[0], recovery=True).faces[0]
    assert face.recovery_key is not None
    assert "recovery_key" not in face.to_dict()
    assert "recovery_key" not in repr(face)
    assert "features" not in repr(face.recovery_key)


def test_reversing_needs_the_right_key(anonymizer: lf.Anonymizer) -> None:
    first, second = pictures(2)
    result = anonymizer([first, second], recovery=True)
    keys = [face.recovery_key for face in result.faces]
    assert keys[0] is not None
    assert keys[1] is not None
    right, wrong = (anonymizer.restore(result.images[0], key) for key in keys)
    assert right.shape == first.shape
    assert not np.array_equal(right, wrong)


def test_reversing_is_exact_on_latents(anonymizer: lf.Anonymizer) -> None:
    """Replacing f and putting the old f back returns the latent, as far as nothing was lost."""
    s = torch.randn(1, anonymizer.generator.num_ws, anonymizer.codebook.dim)
    f, _ = anonymizer.engine.disentangle(s, "identity")
    back = anonymizer.engine.reorganize(s, {"identity": f}, [])
    assert torch.allclose(back, s, atol=1e-4)


# ---- fail closed


def broken_encoder(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = anonymizer.encoder.forward
    monkeypatch.setattr(anonymizer.encoder, "forward", lambda x: forward(x) * float("nan"))


def raising_encoder(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(anonymizer.encoder, "forward", fail)


def raising_engine(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> torch.Tensor:
        raise TimeoutError

    monkeypatch.setattr(anonymizer.engine, "reorganize", fail)


def broken_generator(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesis = anonymizer.generator.synthesis
    monkeypatch.setattr(anonymizer.generator, "synthesis", lambda w: synthesis(w) * float("nan"))


def raising_recognizer(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("bad")

    monkeypatch.setattr(anonymizer.verification.recognizer, "forward", fail)


def blind_recognizer(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = anonymizer.verification.recognizer.forward
    monkeypatch.setattr(
        anonymizer.verification.recognizer, "forward", lambda x: forward(x) * float("nan")
    )


def raising_detector(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise KeyError("gone")

    monkeypatch.setattr(anonymizer.verification.evidence.detector, "forward", fail)


def blind_detector(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = anonymizer.verification.evidence.detector.forward
    monkeypatch.setattr(
        anonymizer.verification.evidence.detector, "forward", lambda x: forward(x) * float("nan")
    )


def empty_ledger(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anonymizer, "ledger", Ledger(budget=0.5))


def no_randomness(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(n: int) -> int:
        raise OSError("no entropy")

    monkeypatch.setattr("secrets.randbelow", fail)


FAULTS = [
    broken_encoder,
    raising_encoder,
    raising_engine,
    broken_generator,
    raising_recognizer,
    blind_recognizer,
    raising_detector,
    blind_detector,
    empty_ledger,
    no_randomness,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_ends_in_the_fill(
    fault: Callable[[lf.Anonymizer, pytest.MonkeyPatch], None],
    anonymizer: lf.Anonymizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(anonymizer, monkeypatch)
    result = anonymizer(pictures(5))
    assert all(is_filled(image) for image in result.images)
    assert len(result.filled) == 5
    assert all(face.reason for face in result.faces)


def blind_generator(anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN only where results are looked at again."""
    synthesis, calls = anonymizer.generator.synthesis, iter(range(100))

    def third(w: torch.Tensor) -> torch.Tensor:
        return synthesis(w) * (float("nan") if next(calls) % 3 == 2 else 1.0)

    monkeypatch.setattr(anonymizer.generator, "synthesis", third)


OF_A_DETECTOR = (raising_detector, blind_detector)


@pytest.mark.parametrize(
    "fault",
    [fault for fault in [*FAULTS, blind_generator] if fault not in OF_A_DETECTOR],
    ids=lambda fault: fault.__name__,
)
def test_a_fault_ends_in_the_fill_without_a_detector(
    fault: Callable[[lf.Anonymizer, pytest.MonkeyPatch], None],
    undetected: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anonymizer = lf.Anonymizer.load(undetected)
    assert not anonymizer(pictures(5)).filled
    fault(anonymizer, monkeypatch)
    result = anonymizer(pictures(5))
    assert all(is_filled(image) for image in result.images)
    assert all(face.reason for face in result.faces)


@pytest.mark.parametrize(
    ("calibration", "detector", "said"),
    [
        ({"verify.similarity": -2.0}, True, "resembles"),
        ({"verify.face": 1e9}, True, "no face"),
        ({"verify.reconstruction": 0.0}, True, "cannot represent"),
        ({"verify.similarity": -2.0}, False, "resembles"),
        ({"verify.represented": 1.1}, False, "no face"),
        ({"verify.reconstruction": 0.0}, False, "cannot represent"),
    ],
    ids=str,
)
def test_a_face_that_fails_a_check_is_filled(
    calibration: dict[str, float], detector: bool, said: str, tmp_path: Path
) -> None:
    folder = toy_bundle(tmp_path / "strict", calibration=calibration, detector=detector)
    result = lf.Anonymizer.load(folder)(pictures(3))
    assert all(is_filled(image) for image in result.images)
    assert [face.status for face in result.faces] == ["filled"] * 3
    assert all(said in str(face.reason) for face in result.faces)


def test_a_bundle_without_detector_needs_the_limit_of_representation(tmp_path: Path) -> None:
    folder = toy_bundle(tmp_path / "old", detector=False)
    manifest = folder / "bundle.json"
    text = manifest.read_text().replace('"verify.represented"', '"verify.other"')
    manifest.write_text(text)
    with pytest.raises(BundleError, match=r"verify\.represented"):
        lf.Anonymizer.load(folder)


def test_results_that_do_not_come_back_are_filled(undetected: Path) -> None:
    """The limit lies between the errors of originals and of results."""
    anonymizer = lf.Anonymizer.load(undetected)
    evidence = anonymizer.verification.evidence
    assert isinstance(evidence, Representation)
    evidence._largest_error = -1.0
    result = anonymizer(pictures(3))
    assert [face.reason for face in result.faces] == ["the result is not a face"] * 3


def test_one_bad_face_does_not_spoil_the_others(
    anonymizer: lf.Anonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = pictures(4)
    forward = anonymizer.encoder.forward
    bad = torch.from_numpy(sources[2]).permute(2, 0, 1).float() / 127.5 - 1

    def sometimes(x: torch.Tensor) -> torch.Tensor:
        if any(torch.equal(row, bad) for row in x):
            raise RuntimeError("this picture breaks the encoder")
        return forward(x)

    monkeypatch.setattr(anonymizer.encoder, "forward", sometimes)
    result = anonymizer(sources)
    assert [face.status for face in result.faces] == ["replaced"] * 2 + ["filled", "replaced"]
    assert [is_filled(image) for image in result.images] == [False, False, True, False]


def test_a_spent_budget_refuses_one_track_and_not_another(bundle: Path) -> None:
    anonymizer = lf.Anonymizer.load(bundle, ledger=Ledger(budget=1.0))
    source = pictures(1)[0]
    first = anonymizer([source, source], hide=["identity"], tracks=["a", "b"])
    assert not first.filled
    again = anonymizer([source, source], tracks=["a", "c"], hide=["gender", "identity"])
    assert not again.filled  # the held draw of a is free, and a fair draw costs nothing
    dear = anonymizer([source, source], tracks=["d", "a"], epsilon=2.0)
    assert [face.status for face in dear.faces] == ["filled", "replaced"]
    assert "budget" in str(dear.faces[0].reason)


# ---- refusals


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hide": []}, "hide"),
        ({"hide": "identity"}, "hide"),
        ({"hide": ["hat"]}, "hat"),
        ({"keep": ["identity"]}, "identity"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"mechanism": "magic"}, "magic"),
        ({"attribute_rule": "farthest"}, "no effect"),
        ({"hide": ["age"], "epsilon": 1.0}, "no effect"),
        ({"hide": ["age"], "mechanism": "uniform"}, "no effect"),
        ({"hide": ["age"], "attribute_rule": "magic"}, "magic"),
        ({"tracks": ["a", "b"]}, "tracks"),
        ({"tracks": "a"}, "tracks"),
    ],
    ids=str,
)
def test_wrong_settings_are_one_sentence(
    anonymizer: lf.Anonymizer, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        anonymizer(pictures(1)[0], **settings)


@pytest.mark.parametrize(
    "images",
    [
        "face.png",
        [],
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 9, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 0, 3), np.uint8),
        None,
    ],
    ids=lambda images: str(getattr(images, "shape", images)),
)
def test_what_is_no_picture_is_refused(anonymizer: lf.Anonymizer, images: Any) -> None:
    with pytest.raises(ImageError):
        anonymizer(images)


def test_an_incomplete_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        lf.Anonymizer.load(tmp_path)


@pytest.mark.parametrize("device", ["cuda:99", "meta", "toaster"])
def test_a_device_that_cannot_be_used_is_refused(bundle: Path, device: str) -> None:
    with pytest.raises(ConfigError, match="doctor"):
        lf.Anonymizer.load(bundle, device=device)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_face_is_replaced_in_either_precision(bundle: Path, precision: str) -> None:
    anonymizer = lf.Anonymizer.load(bundle, precision=precision)
    assert anonymizer.precision == precision
    result = anonymizer(pictures(1)[0])
    assert result.faces[0].status == "replaced"
    assert not is_filled(result.image)


def test_the_default_precision_is_the_machines(anonymizer: lf.Anonymizer) -> None:
    chosen = str(network_dtype("auto")).removeprefix("torch.")
    assert anonymizer.precision == chosen


def test_an_unknown_precision_is_refused(bundle: Path) -> None:
    with pytest.raises(ConfigError, match="precision"):
        lf.Anonymizer.load(bundle, precision="half")
