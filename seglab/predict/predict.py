"""A run and images of any size -> maps."""

from collections.abc import Iterator, Mapping, Sequence
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seglab.config.foreign import check_model
from seglab.config.parts import build_model
from seglab.config.read import read
from seglab.config.schema import Config, ConfigError
from seglab.data.pixels import read_image
from seglab.labels import VOID, color_image
from seglab.machine.precision import autocast, resolved_precision
from seglab.maps.scoring import predict
from seglab.models.inference import for_inference
from seglab.models.network import Network
from seglab.predict.files import check_names, height_and_width, large_pictures, save
from seglab.predict.memory import bytes_per_pixel, free_memory
from seglab.predict.scale import Scale, back, scale_of
from seglab.run import checkpoints
from seglab.run.folder import Run


def load_network(run: Run, checkpoint: str = "last") -> Network:
    """The trained network of a run, ready for maps. Raises ValueError for a checkpoint that can't be read.

    It computes in the precision in which the run was scored, on whatever device, and gives logits in float32.
    """
    config = check_model(read(run))
    net = trained_network(run, config, checkpoint)
    return in_precision(for_inference(net), resolved_precision(config.precision, "cpu"))


def trained_network(run: Run, config: Config, checkpoint: str = "last") -> Network:
    """The network as the training left it, of a config that `check_model` gave. Raises ValueError.

    A run folder is untrusted: its config may only name models of conf/model, its checkpoint only hold weights.
    """
    path = {"last": run.last_checkpoint, "best": run.best_checkpoint}[checkpoint]
    weights = checkpoints.weights(path, run)
    if _sizes(_expected(config)) != _sizes(weights):
        raise ValueError(f"{path}: not a readable checkpoint of this run (its weights are those of another model)")
    net = build_model(config)
    net.load_state_dict(weights)
    return net


def _expected(config: Config) -> dict[str, Tensor]:
    """The weights of the model, which take no memory, however large a network the config asks for."""
    try:
        with torch.device("meta"):
            return build_model(config).state_dict()
    except ConfigError as e:
        raise ConfigError(str(e).splitlines()[0]) from e


def _sizes(state: Mapping[str, Tensor]) -> dict[str, tuple]:
    return {name: (value.dtype, tuple(value.shape)) for name, value in state.items()}


def in_precision(net: Network, precision: str) -> Network:
    """`net` itself, from now on always computing in `precision` with logits in float32."""
    forward = net.forward

    def computed(image: Tensor) -> Tensor:
        with autocast(precision, image.device):
            return forward(image).float()

    net.forward = computed  # type: ignore[method-assign]
    return net


LARGE = 1_000_000
"""Pixels from which on the memory for a map is compared with what is free."""

TOO_LARGE = "cut it into tiles that overlap"


def write_maps(
    run: Run, images: Sequence[Path], out: Path, checkpoint: str = "last", scale: Scale | None = None
) -> Iterator[Path]:
    """Writes `<name>.png` (class ids) and `<name>_color.png` for each image and yields the former.

    A pixel that is transparent, or that its file calls no data, is VOID. `scale`: the run's own unless given. Raises
    ValueError at once if a map would replace another file than a map; and at the end, when the other images have
    theirs, if one can't be mapped.
    """
    check_names(images, out)
    return _maps(run, images, out, Mapper(load_network(run, checkpoint), scale or scale_of(run)))


def _maps(run: Run, images: Sequence[Path], out: Path, mapper: "Mapper") -> Iterator[Path]:
    classes = read(run).classes
    problems = []
    for image in images:
        try:
            prediction = mapper.map_of(image)
        except (ValueError, OSError) as e:
            problems.append(str(e))
            continue
        save(color_image(prediction, classes), out / f"{image.stem}_color.png", run.folder.resolve().name)
        save(prediction, out / f"{image.stem}.png", run.folder.resolve().name)
        yield out / f"{image.stem}.png"
    if problems:
        head = f"{len(problems)} of {len(images)} images have no map: " if len(images) > 1 else ""
        raise ValueError(head + "; ".join(problems))


class Mapper:
    """Maps of image files by one network at one scale."""

    def __init__(self, net: Network, scale: Scale):
        self.net = net
        self.scale = scale
        self._bytes_per_pixel: float | None = None

    def map_of(self, path: Path) -> np.ndarray:
        """The map `uint8 [H,W]` of an image. Raises ValueError that names the file and the reason."""
        with large_pictures():
            height, width = self._size(path)
            self._check_memory(path, *self.scale.of(height, width))
            image = read_image(path)
        height, width = image.values.shape[:2]
        try:
            prediction = back(predict(self.net, self.scale.shrunk(image.values)), height, width)
        except (MemoryError, RuntimeError) as e:
            if isinstance(e, RuntimeError) and "memory" not in str(e):
                raise
            raise ValueError(f"{path}: the memory is not enough for {width}x{height} pixels; {TOO_LARGE}") from e
        if image.hidden is not None:
            prediction[image.hidden] = VOID
        return prediction

    def _size(self, path: Path) -> tuple[int, int]:
        try:
            return height_and_width(path)
        except Image.DecompressionBombError:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise ValueError(f"{path}: more than {most / 1e6:.0f} million pixels; {TOO_LARGE}") from None
        except (OSError, SyntaxError, ValueError):
            read_image(path)  # which says what is wrong with it
            raise

    def _check_memory(self, path: Path, height: int, width: int) -> None:
        """Raises ValueError if a map of this size needs more memory than is free."""
        if height * width < LARGE:
            return
        if self._bytes_per_pixel is None:
            self._bytes_per_pixel = bytes_per_pixel(self.net)
        needed = self._bytes_per_pixel * height * width
        free = free_memory()
        if free is not None and needed > free:
            side = isqrt(int(0.8 * free / self._bytes_per_pixel)) // 32 * 32
            sizes = f"a map of {width}x{height} pixels needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} are free"
            raise ValueError(f"{path}: {sizes}; {TOO_LARGE}, of at most {side}x{side}")
