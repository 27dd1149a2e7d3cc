"""Arrays -> pictures that a person compares by eye."""

from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seglab.labels import VOID, color_image, rgb

WRONG, RIGHT = "#d62728", "#ebebeb"


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
    gap, head = 6, 22
    sheet = Image.new("RGB", (4 * w + 3 * gap, h + 2 * head + 4), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (heading, part) in enumerate(parts.items()):
        x = i * (w + gap)
        draw.text((x + 2, 3), heading, "black", ImageFont.load_default(13))
        sheet.paste(Image.fromarray(part).resize((w, h), Image.Resampling.NEAREST), (x, head))
    _legend(draw, h + head + 6, [*classes.items(), ("no label", "#000000"), ("wrong", WRONG)])
    return sheet


def _legend(draw: ImageDraw.ImageDraw, y: int, entries: Iterable[tuple[str, str]]) -> None:
    font, x = ImageFont.load_default(13), 2
    for name, color in entries:
        draw.rectangle((x, y + 1, x + 12, y + 13), rgb(color), "black")
        draw.text((x + 17, y - 1), name, "black", font)
        x += 17 + int(draw.textlength(name, font)) + 14
