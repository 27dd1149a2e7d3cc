"""An ONNX file as GeoDeep and the QGIS plugin Deepness ask for it, by their sources.

Both send tiles in 0..1 (8 bits divided by 255) and take the class of the highest output, after they set outputs below a
threshold to 0: of logits, or with its default of 0.5 for an unsure pixel, that would be class 0.
"""

import json
from dataclasses import dataclass

from seglab.predict.export.program import Form

CENTIMETRES = 100.0


@dataclass(frozen=True)
class Tiles:
    """Tiles that the tools cut: pixels a side, percent that neighbours have in common, centimetres a pixel."""

    size: int = 512
    overlap: int = 15
    resolution: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 1 << 14:
            raise ValueError(f"--tile {self.size}: accepted are 1 to {1 << 14} pixels")
        if not 0 <= self.overlap <= 90:
            raise ValueError(f"--overlap {self.overlap}: accepted are 0 to 90 percent")

    def at(self, metres: float | None) -> "Tiles":
        """The same at the resolution of the training images, unless another was asked for. Raises ValueError."""
        if self.resolution is not None:
            return self
        if metres is None:
            raise ValueError(
                "--for qgis: the run does not tell the resolution of its images; --resolution CM (a pixel) does"
            )
        return Tiles(self.size, self.overlap, round(CENTIMETRES * metres, 4))

    @property
    def form(self) -> Form:
        """The form of their programs."""
        return Form(tile=self.size, unit=255.0, softmax=True)

    def facts(self, channels: int) -> dict[str, str]:
        """Metadata that both read as JSON. Deepness reads `tile_size`, its documentation names `tiles_size`.

        With a threshold and a smallest segment of 0 the map is the network's: nothing unsure or small becomes class 0.
        """
        values = {
            **{"model_type": "Segmentor", "resolution": self.resolution},
            **{"tile_size": self.size, "tiles_size": self.size, "tiles_overlap": self.overlap},
            **{"standardization_mean": [0.0] * channels, "standardization_std": [1.0] * channels},
            **{"seg_thresh": 0.0, "seg_small_segment": 0},
        }
        return {key: json.dumps(value) for key, value in values.items()}


def notes(channels: int, dtype: str) -> list[str]:
    """Sentences that a user of the tools must know. Raises ValueError for pixels on which they do not agree."""
    if dtype != "uint8":
        raise ValueError(
            f"--for qgis: the images have {dtype} pixels, which GeoDeep divides by 65535 or by their own range and "
            "Deepness by 255; accepted are runs on 8-bit images, and --format onnx without --for"
        )
    if channels != 3:
        return [f"GeoDeep takes three bands only; Deepness reads this file of {channels}"]
    return []
