from __future__ import annotations

import os
import random
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from lreorg_fast.errors import ImageError, OutputError
from lreorg_fast.media import read_image, write_image
from lreorg_fast.media.images import ENCODERS

LOSSLESS = [".png", ".bmp", ".tif", ".tiff"]
LOSSY = [".jpg", ".jpeg", ".webp"]
FORMAT_OF = {suffix: name for suffix, (name, _) in ENCODERS.items()}


def picture(height: int = 24, width: int = 40) -> NDArray[np.uint8]:
    """Smooth, with every channel and direction different, so that no mix-up stays hidden."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [4 * x + y, 200 - 3 * x, 6 * y + 30]
    return np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)


def save(path: Path, image: Image.Image, format_name: str | None = None, **options: Any) -> Path:
    image.save(path, format_name, **options)
    return path


# --- what is read -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_round_trip_is_exact(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a{suffix}", picture())
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), picture())


@pytest.mark.parametrize("suffix", LOSSY)
def test_round_trip_is_close(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a{suffix}", picture())
    back = read_image(tmp_path / f"a{suffix}")
    assert back.shape == picture().shape
    assert np.abs(back.astype(int) - picture()).mean() < 3


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = save(tmp_path / "really_a_png.jpg", Image.fromarray(picture()), "PNG")
    np.testing.assert_array_equal(read_image(path), picture())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    # What must be done to the stored pixels to see the scene (EXIF 2.3, tag 274).
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    stored = picture()
    options = {"lossless": True} if suffix == ".webp" else {"quality": 95, "subsampling": 0}
    if suffix in (".png", ".tif"):
        options = {}
    path = save(tmp_path / f"a{suffix}", Image.fromarray(stored), exif=exif, **options)
    seen, wanted = read_image(path), undo(stored)
    assert seen.shape == wanted.shape
    assert np.abs(seen.astype(int) - wanted).mean() < (3 if suffix == ".jpg" else 0.01)


def test_gray_bilevel_and_palette_become_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(picture())
    for mode in ("L", "1", "P"):
        image = rgb.convert(mode)
        path = save(tmp_path / f"{mode}.png", image)
        np.testing.assert_array_equal(read_image(path), np.array(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_dropped(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    alpha = np.full(picture().shape[:2], 255, np.uint8)
    alpha[:, :10] = 0
    image.putalpha(Image.fromarray(alpha))
    seen = read_image(save(tmp_path / "a.png", image))
    assert (seen[:, :10] == 255).all()
    np.testing.assert_array_equal(seen[:, 10:], np.array(image.convert("RGB"))[:, 10:])


def test_a_transparent_palette_entry_or_colour_is_dropped(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    seen = read_image(save(tmp_path / "p.png", palette, transparency=0))
    assert seen.tolist() == [[[255, 255, 255], [40, 50, 60]]]
    colour = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    seen = read_image(save(tmp_path / "c.png", colour, transparency=(1, 2, 3)))
    assert seen.tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_rounded(tmp_path: Path, suffix: str) -> None:
    samples = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    path = save(tmp_path / f"a{suffix}", Image.fromarray(samples))
    assert read_image(path)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]


@pytest.mark.parametrize(("mode", "suffix"), [("CMYK", ".jpg"), ("F", ".tif"), ("I", ".tif")])
def test_modes_without_one_meaning_are_refused(tmp_path: Path, mode: str, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", Image.fromarray(picture()).convert("L").convert(mode))
    with pytest.raises(ImageError, match=f"colour mode {mode}.*convert it to 8-bit RGB"):
        read_image(path)


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_several_frames_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), shade, np.uint8)) for shade in (0, 90, 180)]
    path = save(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="several frames or pages"):
        read_image(path)


def test_other_formats_are_refused_whatever_their_name(tmp_path: Path) -> None:
    for format_name in ("GIF", "PPM", "ICO", "PDF", "EPS", "TGA", "ICNS", "JPEG2000"):
        path = save(tmp_path / f"{format_name}.png", Image.fromarray(picture(32, 32)), format_name)
        with pytest.raises(ImageError, match="not a picture that can be read"):
            read_image(path)


def test_not_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>404</html>")
    for name, message in {
        "folder.png": "not a regular file",
        "pipe.png": "not a regular file",
        "empty.png": "is empty",
        "text.png": "not a picture",
        "missing.png": "No such file",
        "nul\0.png": "null byte",
    }.items():
        with pytest.raises(ImageError, match=message) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(picture()))
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about broken TIFF tables
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_no_truncated_file_gives_a_partial_picture(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"whole{suffix}", picture())
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    pixels = read_image(tmp_path / f"whole{suffix}")
    path = tmp_path / f"cut{suffix}"
    refused = 0
    lengths = range(1, len(whole), max(1, len(whole) // 100))
    for length in lengths:
        path.write_bytes(whole[:length])
        try:
            # Only trailers without pixels (a checksum, an end marker) may be missing.
            np.testing.assert_array_equal(read_image(path), pixels)
        except ImageError:
            refused += 1
    assert refused >= 0.8 * len(lengths)


def test_another_librarys_tolerance_for_truncated_files_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    write_image(tmp_path / "whole.jpg", picture())
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])

    def attempt(name: str) -> bool:
        try:
            read_image(tmp_path / name)
        except ImageError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(attempt, ["cut.jpg", "whole.jpg"] * 50))
    assert results == [False, True] * 50
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about broken TIFF tables
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_flipped_bytes_give_a_picture_or_an_image_error(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"whole{suffix}", picture())
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(damaged)
        try:
            seen = read_image(path, max_pixels=10_000)
        except ImageError:
            refused += 1
        else:
            assert seen.dtype == np.uint8
            assert seen.ndim == 3
            assert seen.shape[2] == 3
            assert seen.shape[0] * seen.shape[1] <= 10_000
    assert refused > 0


def _png(width: int, height: int, body: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def _tiff_with_huge_tile() -> bytes:
    entries = [
        (256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
        (277, 3, 1, 1), (322, 4, 1, 60000), (323, 4, 1, 60000), (324, 4, 1, 8), (325, 4, 1, 8),
    ]  # fmt: skip
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + struct.pack("<I", 0)


def _endless_tiff() -> bytes:
    """A million pages of one pixel: counting them takes minutes."""
    tags = (
        (256, 1),
        (257, 1),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, 1),
    )
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    size = 2 + len(entries) + 4
    pages = bytearray(b"II*\0" + struct.pack("<I", 8))
    page = struct.pack("<H", len(tags)) + entries + bytes(4)
    pages += page * 1_000_000
    nexts = 8 + size * np.arange(1, 1_000_001, dtype="<u4")
    view = np.frombuffer(pages, np.uint8)[8:].reshape(-1, size)
    view[:, -4:] = nexts.view(np.uint8).reshape(-1, 4)
    return bytes(pages)


def _webp(width: int, height: int) -> bytes:
    def size(value: int) -> bytes:
        return (value - 1).to_bytes(3, "little")

    encoded = BytesIO()
    Image.new("RGB", (1, 1)).save(encoded, "WEBP", lossless=True)
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size(width) + size(height)
    body = b"WEBP" + extended + encoded.getvalue()[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _jpeg(width: int, height: int) -> bytes:
    encoded = BytesIO()
    Image.new("RGB", (8, 8)).save(encoded, "JPEG")
    content = bytearray(encoded.getvalue())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def _bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


BOMBS = {
    "wide.png": _png(2**31 - 1, 1, zlib.compress(b"")),
    "large.png": _png(60_000, 60_000, zlib.compress(bytes(10_000_000))),
    "just_over.png": _png(6325, 6325, zlib.compress(bytes(1000))),
    "large.bmp": _bmp(40_000, 40_000),
    "negative.bmp": _bmp(40_000, -40_000),
    "tile.tif": _tiff_with_huge_tile(),
    "large.webp": _webp(16_383, 16_383),
    "large.jpg": _jpeg(65_500, 65_500),
    "over_our_limit.jpg": _jpeg(6_330, 6_330),
    "tall.jpg": _jpeg(1_000, 65_500),
    "over_our_limit.bmp": _bmp(6_330, 6_330),
}


def test_there_are_ten_bombs() -> None:
    assert len(BOMBS) >= 10


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """Each claims more than 120 MB of pixels; the largest file is 10 kB of them."""
    tracemalloc.start()
    try:
        for name, content in BOMBS.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ImageError, match="too large"):
                read_image(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_before_decoding(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any) -> None:
        pytest.fail("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", decode)
    (tmp_path / name).write_bytes(BOMBS[name])
    with pytest.raises(ImageError, match="too large"):
        read_image(tmp_path / name)


def test_pages_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "endless.tif").write_bytes(_endless_tiff())
    with pytest.raises(ImageError, match="several frames or pages"):
        read_image(tmp_path / "endless.tif")


def test_the_pixel_limit_is_exact(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture(10, 20))
    assert read_image(tmp_path / "a.png", max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(ImageError, match="20 x 10 pixels, at most 199"):
        read_image(tmp_path / "a.png", max_pixels=199)


def test_a_text_chunk_bomb_is_refused(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a" * 5_000_000, zip=True)
    path = save(tmp_path / "a.png", Image.fromarray(picture()), pnginfo=info)
    assert path.stat().st_size < 100_000
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


def test_a_file_larger_than_its_pixels_could_need_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with open(path, "wb") as stream:
        stream.truncate(17 * 2**20)
    with pytest.raises(ImageError, match="more than a picture of 1000 pixels can need"):
        read_image(path, max_pixels=1000)


# --- what is written ----------------------------------------------------------------------

CANARY = b"CANARY-7f3a"
# What Pillow reports of a file's structure; nothing in it comes from the source.
STRUCTURE = {
    "jfif", "jfif_version", "jfif_unit", "jfif_density",
    "dpi", "compression", "resolution", "loop", "background",
}  # fmt: skip


def _with_metadata(format_name: str) -> bytes:
    """A picture that carries the canary in every place that the format has."""
    exif = Image.Exif()
    text = CANARY.decode()
    for tag in (270, 271, 272, 305, 315, 33432):  # description, make, model, software, artist
        exif[tag] = text
    exif.get_ifd(0x8825)[29] = text  # GPS date
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + CANARY  # user comment
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + CANARY
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + CANARY + b"</x:xmpmeta>"
    options: dict[str, Any] = {"exif": exif, "icc_profile": profile, "xmp": xmp}
    if format_name == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", text)
        info.add_itxt("Title", text)
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options = {"exif": exif, "icc_profile": profile, "pnginfo": info}
    elif format_name == "JPEG":
        thumbnail = b"\xff\xd8\xff\xe0" + CANARY + b"\xff\xd9"
        options |= {"comment": CANARY, "extra": b"\xff\xed" + struct.pack(">H", 13) + CANARY}
        exif.get_ifd(1)[513] = 0
        exif[0x501B] = thumbnail
    elif format_name == "TIFF":
        options = {"tiffinfo": {270: text, 305: text, 700: xmp, 34675: profile, 33723: CANARY}}
    elif format_name == "BMP":
        options = {}
    encoded = BytesIO()
    Image.fromarray(picture()).save(encoded, format_name, **options)
    return encoded.getvalue() + CANARY  # appended data too (a phone's second picture or video)


@pytest.mark.parametrize("target", sorted(set(ENCODERS) - {".jpeg", ".tiff"}))
@pytest.mark.parametrize("source", [".png", ".jpg", ".webp", ".bmp", ".tif"])
def test_no_metadata_survives(tmp_path: Path, source: str, target: str) -> None:
    content = _with_metadata(FORMAT_OF[source])
    assert content.count(CANARY) >= (1 if source == ".bmp" else 3)
    (tmp_path / f"in{source}").write_bytes(content)
    write_image(tmp_path / f"out{target}", read_image(tmp_path / f"in{source}"))
    written = (tmp_path / f"out{target}").read_bytes()
    assert CANARY not in written
    for marker in (
        b"Exif",
        b"http://ns.adobe",
        b"xmpmeta",
        b"ICC_PROFILE",
        b"iCCP",
        b"ICCP",
        b"EXIF",
    ):
        assert marker not in written
    with Image.open(tmp_path / f"out{target}") as image:
        assert set(image.info) <= STRUCTURE
        # TIFF keeps its structure in the same kind of table; only that may be in it.
        assert set(image.getexif()) <= set(range(254, 260)) | {
            262,
            266,
            273,
            277,
            278,
            279,
            284,
            317,
        }


def test_the_file_depends_on_pixels_only(tmp_path: Path) -> None:
    for suffix in ENCODERS:
        write_image(tmp_path / f"a{suffix}", picture())
        write_image(tmp_path / f"b{suffix}", np.array(picture(), order="F"))
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_an_existing_picture_is_kept_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, picture())
    with pytest.raises(OutputError, match="exists already"):
        write_image(path, 255 - picture())
    np.testing.assert_array_equal(read_image(path), picture())
    write_image(path, 255 - picture(), overwrite=True)
    np.testing.assert_array_equal(read_image(path), 255 - picture())


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.exe", "a.jp2"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="is not one of"):
        write_image(tmp_path / name, picture())
    assert os.listdir(tmp_path) == []


def test_a_picture_too_large_for_its_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose another suffix"):
        write_image(tmp_path / "a.webp", np.zeros((1, 20_000, 3), np.uint8))
    assert os.listdir(tmp_path) == []


@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    kind=st.sampled_from(["uint8", "float32", "int64", "bool"]),
)
def test_only_pictures_are_written(
    shape: list[int], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    array = np.zeros(shape, kind)
    if kind == "uint8" and len(shape) == 3 and shape[2] == 3 and array.size:
        return
    folder = tmp_path_factory.mktemp("refused")
    with pytest.raises(ImageError, match="uint8"):
        write_image(folder / "a.png", array)  # type: ignore[arg-type]
    assert os.listdir(folder) == []
