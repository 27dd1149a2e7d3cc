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
