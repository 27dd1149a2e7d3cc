"""Every kind of image file: read right to the last value, or refused with one line that says why."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from seglab.data.files.pixels import read_image, read_label, upright
from seglab.data.folder import FolderReader, Pair, pixels
from tests.tiff import COLORS, GREY, HALF, IDS, RGB, RNG, in_three, palette_picture, write_tiff

CLASSES = {"ground": "#c8c8c8", "roof": "#d1495b", "tree": "#3f8f4f", "water": "#2e6fb7"}


def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir(exist_ok=True)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "array", "how"),
    [
        ("grey", GREY, {}),
        ("rgb", RGB, {}),
        ("rgb compressed", RGB, {"compressed": True}),
        ("rgb in planes", RGB, {"planes": True}),
        ("rgb in compressed planes", RGB, {"planes": True, "compressed": True}),
        ("alpha in compressed planes", np.dstack([RGB, HALF]), {"extra": [2], "planes": True, "compressed": True}),
        ("big-endian", RGB, {"big": True}),
        ("alpha", np.dstack([RGB, HALF]), {"extra": [2]}),
        ("grey and alpha", np.dstack([GREY, HALF]), {"extra": [2]}),
    ],
)
def test_tiff_images_of_8_bits(tmp_path: Path, name: str, array: np.ndarray, how: dict) -> None:
    write_tiff(tmp_path / "1.tif", array, **how)
    got = read_image(tmp_path / "1.tif")
    colors = array[..., :3] if array.ndim == 3 and array.shape[2] >= 3 else in_three(array.reshape(6, 8, -1)[..., 0])
    assert got.values.dtype == np.uint8 and (got.values == colors).all()
    assert (got.hidden is None) == ("alpha" not in name)
    if got.hidden is not None:
        assert (got.hidden == (HALF == 0)).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_images_are_what_a_viewer_shows(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    picture.save(tmp_path / "1.png")
    assert (read_image(tmp_path / "1.png").values == np.asarray(picture.convert("RGB"))).all()
    assert (pixels(tmp_path / "1.png", "RGB") == np.asarray(picture.convert("RGB"))).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_images_of_few_bits_are_stretched(tmp_path: Path, bits: int) -> None:
    ids = IDS % 2**bits
    write_tiff(tmp_path / "1.tif", ids, bits=bits)
    assert (read_image(tmp_path / "1.tif").values == in_three(ids * (255 // (2**bits - 1)))).all()


@pytest.mark.parametrize(
    ("array", "how", "said"),
    [
        (RGB.astype(np.uint16) * 200, {}, "16 bits a channel: accepted are 8-bit images"),
        (RGB.astype(np.uint16), {"compressed": True}, "gdal_translate -ot Byte -scale"),
        (np.dstack([RGB, HALF]).astype(np.uint16), {"extra": [2]}, "16 bits a channel"),
        (GREY.astype(np.uint16), {}, "16 bits a channel"),
        (GREY.astype(np.int32) * 1000, {}, "signed numbers of 32 bits a channel: accepted are 8-bit images"),
        (GREY.astype(np.int8), {}, "signed numbers of 8 bits"),
        (RGB.astype(np.int8), {}, "signed numbers of 8 bits"),
        (GREY.astype(np.uint32), {}, "32 bits a channel"),
        (GREY.astype(np.float32), {}, "float numbers of 32 bits"),
        (RGB.astype(np.float64), {}, "float numbers of 64 bits"),
        (GREY.astype(np.complex64), {}, "complex numbers of 64 bits"),
        (COLORS, {}, "5 bands: accepted are 8-bit images of 1 band (grey) or 3 bands (RGB)"),
        (COLORS, {"extra": [0, 0]}, "5 bands"),
        (COLORS, {"extra": [2, 0]}, "5 bands"),
        (COLORS[..., :4], {}, "4 bands, the last not marked as alpha"),
        (COLORS[..., :4], {"extra": [0]}, "gdal_translate -b 1 -b 2 -b 3"),
        (COLORS[..., :2], {}, "2 bands, the last not marked as alpha"),
        (COLORS[..., :2], {"extra": [0]}, "2 bands, the last not marked as alpha"),
        (COLORS[..., :4], {"photometric": 5}, "CMYK colours: accepted are"),
        (RGB, {"photometric": 8}, "Lab colours"),
    ],
)
def test_tiff_images_that_would_be_cut_are_refused(tmp_path: Path, array: np.ndarray, how: dict, said: str) -> None:
    path = folder(tmp_path) / "1.tif"
    write_tiff(path, array, **how)
    with pytest.raises(ValueError) as e:
        read_image(path)
    assert str(e.value).startswith("data/1.tif: ") and said in str(e.value) and "\n" not in str(e.value)


def test_png_of_16_bits_and_cmyk_jpeg_are_refused(tmp_path: Path) -> None:
    import cv2

    for shape in ((6, 8), (6, 8, 3), (6, 8, 4)):
        cv2.imwrite(str(tmp_path / "1.png"), np.full(shape, 300, np.uint16))
        with pytest.raises(ValueError, match="16 bits a channel"):
            read_image(tmp_path / "1.png")
    with pytest.raises(ValueError, match="a label of 3 bands and alpha, 16 bits, unsigned: accepted are class ids"):
        read_label(tmp_path / "1.png")
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "1.jpg")
    with pytest.raises(ValueError, match="CMYK colours"):
        read_image(tmp_path / "1.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_images_and_labels(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    plain = Image.fromarray(IDS)
    plain.getexif()[274] = orientation
    right = np.asarray(ImageOps.exif_transpose(plain))
    assert (upright(IDS, orientation) == right).all()
    Image.fromarray(IDS * 60).save(tmp_path / "1.jpg", exif=exif, quality=100)
    assert np.abs(read_image(tmp_path / "1.jpg").values[..., 0].astype(int) - right * 60).max() < 8
    Image.fromarray(IDS).save(tmp_path / "1.png", exif=exif)
    assert (read_label(tmp_path / "1.png") == right).all()
    hidden = np.dstack([in_three(IDS), IDS])
    Image.fromarray(hidden).save(tmp_path / "2.png", exif=exif)
    got = read_image(tmp_path / "2.png")
    assert got.orientation == orientation and (got.values == in_three(right)).all()
    assert got.hidden is not None and (got.hidden == (right == 0)).all()
    for array in (IDS, in_three(IDS)):
        write_tiff(tmp_path / "1.tif", array, orientation=orientation)
        assert (read_image(tmp_path / "1.tif").values == in_three(right)).all()
        assert (read_label(tmp_path / "1.tif").reshape(*right.shape, -1)[..., 0] == right).all()
    write_tiff(tmp_path / "1.tif", IDS.astype(np.float64), orientation=orientation)
    if orientation < 5:
        assert (read_label(tmp_path / "1.tif") == right).all()
    else:
        with pytest.raises(ValueError, match=f"orientation {orientation} in a label of 64 bits: accepted is"):
            read_label(tmp_path / "1.tif")


def test_pages(tmp_path: Path) -> None:
    write_tiff(tmp_path / "1.tif", RGB, RGB[::2, ::2], subfiles=[0, 1])
    assert (read_image(tmp_path / "1.tif").values == RGB).all()  # the second one is an overview
    write_tiff(tmp_path / "1.tif", RGB, RGB, RGB)
    with pytest.raises(ValueError, match="3 pages: accepted is one picture a file"):
        read_image(tmp_path / "1.tif")
    write_tiff(tmp_path / "1.tif", IDS.astype(np.float32), IDS.astype(np.float32))
    with pytest.raises(ValueError, match="2 pages"):
        read_label(tmp_path / "1.tif")
    Image.fromarray(RGB).save(tmp_path / "1.png", save_all=True, append_images=[Image.fromarray(RGB[::-1])])
    with pytest.raises(ValueError, match="2 pages"):
        read_image(tmp_path / "1.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_truncated_file_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = folder(tmp_path) / f"1.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (50, 50, 3)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    for length in (0, 1, 20, 60, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError) as e:
            read_image(path)
        assert str(e.value).startswith(f"data/1.{suffix}: ") and "\n" not in str(e.value), length
        assert length or "an empty file (0 bytes)" in str(e.value)


def test_what_cannot_be_opened_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"1\.png: not a readable image$"):
        read_image(tmp_path / "1.png")
    with pytest.raises(ValueError, match=r"2.png: not readable \(No such file or directory\)$"):
        read_image(tmp_path / "2.png")
    with pytest.raises(ValueError, match=r"not readable \(Is a directory\)$"):
        read_image(tmp_path)
    Image.fromarray(RGB).save(tmp_path / "3.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"3.png: too many pixels: accepted are up to 20; cut it into tiles"):
        read_image(tmp_path / "3.png")


def test_transparent_pixels_of_an_image_are_void(tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "label.png")
    pair = Pair("1", tmp_path / "1.png", tmp_path / "label.png")
    Image.fromarray(np.dstack([RGB, HALF])).save(pair.image)
    image, mask = FolderReader().load(pair, CLASSES)
    assert (image == RGB).all() and (mask == np.where(HALF == 0, 255, IDS)).all()
    for opaque in (1, 255):
        Image.fromarray(np.dstack([RGB, np.full_like(IDS, opaque)])).save(pair.image)
        assert (FolderReader().load(pair, CLASSES)[1] == IDS).all()
    palette_picture(IDS, [(9, 0, 0), (200, 0, 0), (0, 99, 0), (1, 1, 1)]).save(pair.image, transparency=2)
    assert (FolderReader().load(pair, CLASSES)[1] == np.where(IDS == 2, 255, IDS)).all()


def test_a_turned_image_that_does_not_fit_its_label_says_so(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    pair = Pair("1", folder(tmp_path) / "1.jpg", tmp_path / "1.png")
    Image.fromarray(RGB).save(pair.image, exif=exif)
    Image.fromarray(IDS).save(pair.label)
    with pytest.raises(ValueError, match=r"the image is 6x8 .turned by its orientation 6., its label 8x6"):
        FolderReader().load(pair, CLASSES)


@pytest.mark.parametrize("named", ["0", "255 ", "17.0"])
def test_the_value_that_a_tiff_names_for_no_data_is_hidden(tmp_path: Path, named: str) -> None:
    value = int(float(named))
    image = np.where(value == RGB, value ^ 1, RGB)
    image[1:3, 2:5] = value
    image[0, 0, 0] = value  # one band alone is a colour
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = named
    Image.fromarray(image).save(tmp_path / "1.tif", tiffinfo=tags)
    hidden = read_image(tmp_path / "1.tif").hidden
    assert hidden is not None
    assert (hidden == (image == value).all(-1)).all() and hidden.sum() == 6
