"""Values -> one self-contained HTML page: every text escaped, every picture inside it."""

import base64
import io
import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&'\u2028\u2029"}
"""Characters that could end a <script> or a line of it, and their escapes in JSON."""


def render(template: str, **values: Any) -> str:
    """Fills a template of seglab/pages with `values`, which are escaped; an undefined name is an error."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    made = Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(folder), trim_blocks=True)
    made.lstrip_blocks = True
    made.filters |= {"percent": percent, "json": as_json}
    return made


def picture(
    image: np.ndarray | Image.Image, width: int | None = None, lossless: bool = False, quality: int = 80
) -> str:
    """`data:image/webp` URI of a picture or of `uint8 [H,W,3]`, shrunk to `width` pixels if it is wider.

    `lossless` is for label maps: it keeps colours exact and shrinks to the nearest pixel. Otherwise `quality` is
    WebP's, 0 to 100.
    """
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if width is not None and made.width > width:
        size = (width, max(1, round(made.height * width / made.width)))
        made = made.resize(size, Image.Resampling.NEAREST if lossless else Image.Resampling.LANCZOS)
    out = io.BytesIO()
    made.save(out, "WEBP", lossless=lossless, quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def as_json(value: Any) -> "Markup":
    """`value` as JSON that is safe inside a <script>; NaN and infinity, which JSON lacks, are null."""
    from markupsafe import Markup

    text = json.dumps(_json_value(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(ESCAPES))  # no characters of HTML are left


def percent(share: float | None, digits: int = 1) -> str:
    """`12.3%`; a dash for None and NaN."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.{digits}f}%"  # noqa: RUF001


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _json_value(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
