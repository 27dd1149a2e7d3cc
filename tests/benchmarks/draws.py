"""Loading of what is flipped, turned and cropped: albumentations on pixels beside draws that are made before them."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
from PIL import Image

from seglab.config.parts import build_data
from seglab.data import SegmentationData
from tests.benchmarks.config import composed
from tests.benchmarks.timing import Row

SIZES = ((224, None), (512, None), (1024, None), (1024, 512))
"""Height and width of square images, and of their crops."""

IMAGES = 40
REPEATS = 5


def rows(peer: ModuleType, script: Path, tiles: Path, seeds: int) -> Iterator[Row]:
    """Images per second of one CPU core, with the transforms of conf/data/folder.yaml."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        for size, crop in SIZES:
            root = Path(folder) / str(size)
            if not root.exists():
                draw(root, size)
            settings = ("data=folder", f"data.root={root}", f"data.cache_dir={folder}/cache", "data.num_workers=0")
            data = [build_data(composed(*settings, *([f"data.crop={crop}"] if crop else []))) for _ in range(2)]
            data[0].augmentation.only_moves = False  # as for a transform that changes values
            what = f"crops of {crop}² of {size}²" if crop else f"images of {size}²"
            yield Row(f"loading, {what}, albumentations beside draws", *images_per_second(*data), "images/CPU-s", True)


def draw(root: Path, size: int) -> None:
    """Images of noise and their labels."""
    rng = np.random.default_rng(0)
    for sub, values, shape in (("data", 256, (size, size, 3)), ("label", 4, (size, size))):
        (root / sub).mkdir(parents=True)
        for i in range(IMAGES):
            pixels = rng.integers(0, values, shape).astype(np.uint8)
            Image.fromarray(pixels).save(root / sub / f"{i}.png", compress_level=0)


def images_per_second(*data: SegmentationData) -> tuple[float, ...]:
    """Medians over epochs in turn, after one that warms up."""
    for each in data:
        each.setup()
    loaders = [each.train_dataloader() for each in data]
    found: tuple[list[float], ...] = tuple([] for _ in data)
    for epoch in range(REPEATS + 1):
        for loader, kept in zip(loaders, found, strict=True):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            start = time.process_time()
            count = sum(len(batch["name"]) for batch in loader)
            if epoch:
                kept.append(count / (time.process_time() - start))
    return tuple(map(statistics.median, found))
