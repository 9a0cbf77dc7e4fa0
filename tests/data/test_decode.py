"""Every picture that Pillow reads becomes upright RGB of one size, and every other file a reason."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, ImageOps
from torchvision.transforms import functional as TF

from cnn_compare.data.decode import Decoding, decode, prepare
from cnn_compare.errors import BadPictureError

WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


def photo(width: int, height: int) -> Image.Image:
    """Smooth and different in every direction and channel, so that no rotation or mirroring goes unnoticed."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [255 * columns / width, 255 * rows / height, 127 + 120 * np.sin(rows / 5 + columns / 7)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def saved(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


def reason(path, **options) -> str:
    with pytest.raises(BadPictureError) as caught:
        decode(path, Decoding(8, **options))
    assert str(path) in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp"])
def test_a_photo_is_turned_upright_as_pillow_turns_it(tmp_path, extension, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = saved(tmp_path / f"photo.{extension}", photo(30, 20), exif=exif)
    with Image.open(path) as stored:
        expected = ImageOps.exif_transpose(stored)
    pixels, info = decode(path, Decoding(10, "squash"))
    np.testing.assert_array_equal(pixels, np.asarray(expected.convert("RGB").resize((10, 10), Image.BILINEAR)))
    assert info.size == expected.size == ((30, 20) if orientation < 5 else (20, 30))


def test_damaged_exif_data_are_noted_and_the_pixels_used(tmp_path):
    path = saved(tmp_path / "photo.png", photo(16, 16), exif=b"Exif\0\0MM no exif at all")
    pixels, info = decode(path, Decoding(8))
    assert np.ptp(pixels) > 100
    assert "EXIF" in info.notes


def two_pixels(mode: str, first, second, **info) -> Image.Image:
    """A picture of two pixels; ``info`` as a file's would be."""
    image = Image.new(mode, (2, 1))
    image.putpixel((0, 0), first)
    image.putpixel((1, 0), second)
    image.info.update(info)
    return image


def with_palette(mode: str, **info) -> Image.Image:
    image = two_pixels(mode, 1 if mode == "P" else (1, 255), 2 if mode == "P" else (2, 0), **info)
    image.putpalette([*BLACK, *RED, 0, 0, 255])
    return image


def array(values, dtype) -> Image.Image:
    return Image.fromarray(np.array([values], dtype))


MODES = {
    "1": (two_pixels("1", 0, 1), BLACK, WHITE),
    "L": (two_pixels("L", 100, 255), (100,) * 3, WHITE),
    "L, one value transparent": (two_pixels("L", 100, 200, transparency=100), WHITE, (200,) * 3),
    "LA": (two_pixels("LA", (0, 255), (0, 0)), BLACK, WHITE),
    "LA, half transparent": (two_pixels("LA", (0, 51), (100, 255)), (204,) * 3, (100,) * 3),
    "La": (two_pixels("LA", (0, 255), (0, 0)).convert("La"), BLACK, WHITE),
    "P": (with_palette("P"), RED, (0, 0, 255)),
    "P, one index transparent": (with_palette("P", transparency=2), RED, WHITE),
    "P, alpha of each index": (with_palette("P", transparency=bytes([255, 51, 0])), (255, 204, 204), WHITE),
    "PA": (with_palette("PA"), RED, WHITE),
    "RGB": (two_pixels("RGB", RED, (1, 2, 3)), RED, (1, 2, 3)),
    "RGB, one colour transparent": (two_pixels("RGB", RED, (1, 2, 3), transparency=RED), WHITE, (1, 2, 3)),
    "RGBA": (two_pixels("RGBA", (*RED, 51), (1, 2, 3, 0)), (255, 204, 204), WHITE),
    "RGBa": (two_pixels("RGBA", (*RED, 51), (1, 2, 3, 0)).convert("RGBa"), (255, 204, 204), WHITE),
    "RGBX": (two_pixels("RGBX", (*RED, 0), (1, 2, 3, 0)), RED, (1, 2, 3)),
    "CMYK": (two_pixels("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)), RED, BLACK),
    "YCbCr": (two_pixels("YCbCr", (76, 85, 255), (255, 128, 128)), RED, WHITE),
    "HSV": (two_pixels("HSV", (0, 255, 255), (0, 0, 255)), RED, WHITE),
    "LAB": (two_pixels("LAB", (0, 128, 128), (255, 128, 128)), BLACK, WHITE),
    "I;16": (array([0x8000, 0xFFFF], "<u2"), (128,) * 3, WHITE),
    "I;16, one value transparent": (two_pixels("I;16", 0x8000, 0x8001, transparency=0x8000), WHITE, (128,) * 3),
    "I;16B": (array([0x8000, 0xFFFF], ">u2"), (128,) * 3, WHITE),
    "I;16L": (two_pixels("I;16L", 0x8000, 0xFFFF), (128,) * 3, WHITE),
    "I;16N": (two_pixels("I;16N", 0x8000, 0xFFFF), (128,) * 3, WHITE),
    "I of 8 bits": (array([100, 255], "i4"), (100,) * 3, WHITE),
    "I of 16 bits": (array([0x8080, 0xFFFF], "i4"), (128,) * 3, WHITE),
    "I, signed": (array([-1000, 1000], "i4"), BLACK, WHITE),
    "F to 1": (array([0.0, 0.2], "f4"), BLACK, (51,) * 3),
    "F to 255": (array([100.0, 200.0], "f4"), (100,) * 3, (200,) * 3),
    "F, anything": (array([-1e30, 1e30], "f4"), BLACK, WHITE),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_the_colours_that_it_shows(name):
    image, *expected = MODES[name]
    untouched = image.tobytes()
    pixels = prepare(image, Decoding(2, "squash"))
    # Colour spaces round.
    np.testing.assert_allclose(pixels[0], np.array(expected), atol=1 if name in ("YCbCr", "LAB") else 0)
    assert image.tobytes() == untouched


def test_the_table_of_modes_holds_every_mode_of_pillow():
    assert {image.mode for image, *_ in MODES.values()} >= {*Image.MODES}


def test_transparent_pixels_show_the_background():
    image = two_pixels("RGBA", (0, 0, 0, 0), (0, 0, 0, 255))
    assert prepare(image, Decoding(2, "squash", background=(10, 20, 30)))[0].tolist() == [[10, 20, 30], [0, 0, 0]]


def test_12_bits_are_scaled_as_12_bits(tmp_path):
    tags = [(256, 4, 2), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (279, 4, 3)]
    # Two values of 12 bits in three bytes: 0x800 and 0xFFF.
    content = struct.pack("<2sHL", b"II", 42, 12) + bytes([0x80, 0x0F, 0xFF, 0])
    content += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHLL", tag, kind, 1, v) for tag, kind, v in tags)
    path = tmp_path / "medical.tif"
    path.write_bytes(content + bytes(4))
    assert decode(path, Decoding(2, "squash"))[0][0, :, 0].tolist() == [128, 255]


def test_16_bit_files_keep_their_brightness(tmp_path):
    """Also a PGM, which Pillow gives as 32-bit integers; a dark one must not be taken for one of 8 bits."""
    dark = array([200, 0x1000], "<u2")
    for name in ("dark.png", "dark.tif", "dark.pgm"):
        pixels, info = decode(saved(tmp_path / name, dark), Decoding(2, "squash"))
        assert pixels[0, :, 0].tolist() == [0, 16]
        assert info.notes == ""


def test_a_range_that_the_file_does_not_declare_is_noted(tmp_path):
    path = saved(tmp_path / "floats.tif", array([0.0, 0.5], "f4"))
    assert "from 0 to 1" in decode(path, Decoding(2))[1].notes
    assert "NaN" in reason(saved(tmp_path / "nan.tif", array([0.0, np.nan], "f4")))


@pytest.mark.parametrize("size", [(40, 40), (61, 40), (40, 61), (100, 33), (7, 50), (8, 9), (300, 299)])
@pytest.mark.parametrize("side", [8, 15, 32])
def test_crop_gives_torchvisions_resize_and_center_crop(size, side):
    image = photo(*size)
    expected = TF.center_crop(TF.resize(image, side), [side, side])
    # Their floats differ in the last bit.
    np.testing.assert_allclose(prepare(image, Decoding(side)), np.asarray(expected), atol=1)


@pytest.mark.parametrize("size", [(40, 40), (60, 40), (33, 100)])
def test_pad_shows_all_of_the_picture_on_the_background(size):
    expected = ImageOps.pad(photo(*size), (20, 20), Image.BILINEAR, color=(9, 8, 7))
    np.testing.assert_array_equal(prepare(photo(*size), Decoding(20, "pad", background=(9, 8, 7))), expected)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_a_picture_of_one_row_fits_into_memory(fit):
    assert prepare(Image.new("RGB", (60_000, 1), RED), Decoding(64, fit))[32, 32].tolist() == list(RED)


@pytest.mark.parametrize("extension", ["gif", "png", "webp", "tif", "avif"])
def test_of_several_frames_the_first_is_used_and_noted(tmp_path, extension):
    frames = [Image.new("RGB", (16, 16), color) for color in (RED, (0, 0, 255))]
    path = saved(tmp_path / f"moving.{extension}", frames[0], save_all=True, append_images=frames[1:])
    pixels, info = decode(path, Decoding(4))
    np.testing.assert_allclose(pixels, np.broadcast_to(RED, (4, 4, 3)), atol=4)
    assert "first" in info.notes


def test_a_phones_second_picture_is_no_frame(tmp_path):
    path = saved(tmp_path / "phone.jpg", photo(16, 16), format="MPO", save_all=True, append_images=[photo(8, 8)])
    assert decode(path, Decoding(4))[1].notes == ""


@pytest.mark.parametrize("extension", ["jpg", "png", "gif", "webp", "tif", "bmp", "avif", "jp2", "ppm", "tga", "qoi"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_file_that_is_cut_off_is_bad_whatever_another_library_has_set(tmp_path, monkeypatch, extension, share):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = saved(tmp_path / f"whole.{extension}", photo(64, 64))
    content = path.read_bytes()
    decode(path, Decoding(8))
    path.write_bytes(content[: int(share * len(content))])
    assert reason(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_progressive_jpeg_that_is_cut_off_is_bad(tmp_path):
    path = saved(tmp_path / "web.jpg", photo(64, 64), progressive=True)
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in reason(path)


def png_beginning(width: int, height: int) -> bytes:
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(9))]
    packed = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("side", [12_000, 50_000])
def test_a_bomb_is_refused_by_its_header(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_beginning(side, side))
    assert "data.max_pixels" in reason(path)


def test_more_pixels_than_pillow_allows_are_decoded_if_asked_for(tmp_path, monkeypatch):
    path = saved(tmp_path / "map.png", photo(30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(path, Decoding(8, max_pixels=900))[1].size[0] == 30
    assert "data.max_pixels=899" in reason(path, max_pixels=899)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_the_name_does_not_matter_and_the_content_does(tmp_path):
    path = saved(tmp_path / "really a png.jpg", photo(8, 8), format="PNG")
    np.testing.assert_array_equal(decode(path, Decoding(8))[0], photo(8, 8))
    for content in (
        b"<html><body>404</body></html>",
        b"%PDF-1.7 ...",
        b"\0" * 5000,
        png_beginning(8, 8),
        b"\xff\xd8\xff",
    ):
        path.write_bytes(content)
        assert reason(path)


def test_what_is_no_file_is_not_opened(tmp_path):
    fifo, loop = tmp_path / "fifo.jpg", tmp_path / "loop.jpg"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    (tmp_path / "empty.jpg").touch()
    assert "FIFO" in reason(fifo)
    assert "device" in reason(tmp_path.joinpath("/dev/zero"))
    assert "symbolic links" in reason(loop)
    assert "folder" in reason(tmp_path)
    assert "empty" in reason(tmp_path / "empty.jpg")
    assert "No such file" in reason(tmp_path / "missing.jpg")
    assert "null" in reason(tmp_path / "nu\0ll.jpg")


def test_a_heic_picture_of_a_telephone_is_read_where_the_extra_is_installed(tmp_path):
    pytest.importorskip("pillow_heif")
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "x.heic")
    pixels, info = decode(tmp_path / "x.heic", Decoding(8))
    np.testing.assert_allclose(pixels, np.broadcast_to([200, 30, 30], (8, 8, 3)), atol=4)
    assert info.plugin.startswith("pillow_heif ")


def test_a_file_that_may_not_be_read_is_bad(tmp_path):
    path = saved(tmp_path / "secret.png", photo(8, 8))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # Nothing is forbidden to root.
        os.seteuid(65534)
    try:
        assert "Permission denied" in reason(path)
    finally:
        os.seteuid(user)


def test_a_program_is_not_executed(tmp_path):
    assert "program" in reason(saved(tmp_path / "drawing.eps", photo(8, 8)))


def test_whatever_pillow_writes_is_used_or_has_a_reason(tmp_path, capfd):
    """Every format and mode. The colours of each mode are tested above; here they must not come out black or white."""
    Image.init()
    used, refused = set(), set()
    for format in sorted({*Image.SAVE} - {"ICNS"}):  # ICNS scales up to 1,024 pixels, which takes long.
        for mode in Image.MODES:
            buffer = io.BytesIO()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow is to drop a format.
                    photo(16, 16).convert(mode if mode != "La" else "LA").convert(mode).save(buffer, format)
            except (OSError, ValueError, KeyError, AttributeError):
                continue  # Not a mode of this format.
            path = tmp_path / "picture"
            path.write_bytes(buffer.getvalue())
            try:
                pixels, _ = decode(path, Decoding(8))
            except BadPictureError:
                refused.add(format)
            else:
                used.add((format, mode))
                # Pillow scales nothing when it makes 16 bits of 8: those are dark.
                assert pixels.std() > 20 or mode.startswith("I"), (format, mode)
    assert refused == {"EPS", "PALM", "PDF"}  # Drawn by a program; and written by Pillow only.
    assert len(used) > 100
    assert capfd.readouterr() == ("", "")
