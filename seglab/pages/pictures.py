"""Arrays -> pictures that a person compares by eye."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seglab.labels import VOID, color_image, rgb

WRONG = "#d62728"
RIGHT = "#ebebeb"
GAP = 6
"""Pixels between the parts of a panel."""

HEAD = 22
"""Pixels above the parts of a panel."""


def preview(image: np.ndarray, span: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """The picture `uint8 [H,W,3]` of an image of any type `[H,W,C]`: its first three bands, or the first of fewer.

    Values of 8 bits are shown as they are, others stretched from `span`, low and high `[C]` of each band, or from the
    2nd to the 98th percentile of the image's own values other than 0.
    """
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    if shown.dtype != np.uint8:
        count = shown.shape[2]
        low, high = (ends[:count] for ends in (_own_span(shown) if span is None else span))
        width = np.where(high > low, high - low, 1).astype(np.float32)
        shown = (np.clip((shown.astype(np.float32) - low) / width, 0, 1) * 255).round().astype(np.uint8)
    return shown if shown.shape[2] == 3 else np.repeat(shown, 3, 2)


def _own_span(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    step = max(1, int((image.shape[0] * image.shape[1] / 2**18) ** 0.5))  # of more pixels it is no other to the eye
    bands = [band[band != 0] for band in np.moveaxis(image[::step, ::step], 2, 0)]  # 0 is where there are no data
    ends = np.array([np.percentile(band, [2, 98]) if band.size else (0, 1) for band in bands], np.float32)
    return ends[:, 0], ends[:, 1]


def error_image(mask: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """`uint8 [H,W,3]`: red where the map is wrong, light where it is right, black where there is no label."""
    picture = np.where((mask == prediction)[..., None], rgb(RIGHT), rgb(WRONG))
    return np.where((mask == VOID)[..., None], 0, picture).astype(np.uint8)


def panel(
    image: np.ndarray, mask: np.ndarray, prediction: np.ndarray, classes: Mapping[str, str], least: int = 224
) -> Image.Image:
    """Input, label, prediction and error side by side, each at least `least` pixels wide, and a legend."""
    labelled = mask != VOID
    share = (mask != prediction)[labelled].sum() / max(1, labelled.sum())
    parts = {
        "input": image,
        "label": color_image(mask, classes),
        "prediction": color_image(prediction, classes),
        f"error: {share:.1%} of the pixels": error_image(mask, prediction),
    }
    scale = -(-least // mask.shape[1])
    h, w = scale * mask.shape[0], scale * mask.shape[1]
    sheet = Image.new("RGB", (4 * w + 3 * GAP, h + 2 * HEAD + 4), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (heading, part) in enumerate(parts.items()):
        x = i * (w + GAP)
        draw.text((x + 2, 3), heading, "black", ImageFont.load_default(13))
        sheet.paste(Image.fromarray(part).resize((w, h), Image.Resampling.NEAREST), (x, HEAD))
    _legend(draw, h + HEAD + 6, [*classes.items(), ("no label", "#000000"), ("wrong", WRONG)])
    return sheet


def panel_parts(path: Path, shape: tuple[int, int], classes: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray] | None:
    """Image and index map, of `shape`, read back from a saved panel; None if the file is not such a panel."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            sheet = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return None
    width = (sheet.shape[1] - 3 * GAP) // 4
    scale = width // shape[1]
    if scale < 1 or width != scale * shape[1] or sheet.shape[0] != scale * shape[0] + 2 * HEAD + 4:
        return None
    rows = slice(HEAD, HEAD + scale * shape[0], scale)
    image, label = (sheet[rows, x : x + width : scale] for x in (0, width + GAP))
    colors = np.array([rgb(color) for color in classes.values()])
    same = (label[..., None, :] == colors).all(-1)
    return image, np.where(same.any(-1), same.argmax(-1), VOID).astype(np.uint8)


def _legend(draw: ImageDraw.ImageDraw, y: int, entries: Iterable[tuple[str, str]]) -> None:
    font = ImageFont.load_default(13)
    x = 2
    for name, color in entries:
        draw.rectangle((x, y + 1, x + 12, y + 13), rgb(color), "black")
        draw.text((x + 17, y - 1), name, "black", font)
        x += 17 + int(draw.textlength(name, font)) + 14
