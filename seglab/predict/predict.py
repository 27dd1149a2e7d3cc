"""A run and images of any size -> maps."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seglab.config.foreign import check_model
from seglab.config.parts import build_model
from seglab.config.read import read
from seglab.config.schema import Config, ConfigError
from seglab.data.folder import pixels
from seglab.labels import color_image
from seglab.machine.precision import autocast, resolved_precision
from seglab.maps.scoring import predict
from seglab.models.inference import for_inference
from seglab.models.network import Network
from seglab.run import checkpoints
from seglab.run.folder import Run


def load_network(run: Run, checkpoint: str = "last") -> Network:
    """The trained network of a run, ready for maps. Raises ValueError for a checkpoint that can't be read.

    It computes in the precision in which the run was scored, on whatever device, and gives logits in float32. A run
    folder is untrusted: its config may only name models of conf/model, and its checkpoint only hold their weights.
    """
    config = check_model(read(run))
    path = {"last": run.last_checkpoint, "best": run.best_checkpoint}[checkpoint]
    weights = checkpoints.weights(path, run)
    if _sizes(_expected(config)) != _sizes(weights):
        raise ValueError(f"{path}: not a readable checkpoint of this run (its weights are those of another model)")
    net = build_model(config)
    net.load_state_dict(weights)
    return in_precision(for_inference(net), resolved_precision(config.precision, "cpu"))


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


def write_maps(run: Run, images: Sequence[Path], out: Path, checkpoint: str = "last") -> Iterator[Path]:
    """Writes `<name>.png` (class ids) and `<name>_color.png` for each image and yields the former.

    An image is read as it is: one that is coarser or finer than the training images should be resized first.
    Raises ValueError, before it writes any, if a map would replace another or an image.
    """
    _check_names(images, out)
    net = load_network(run, checkpoint)
    classes = read(run).classes
    out.mkdir(parents=True, exist_ok=True)
    for image in images:
        prediction = predict(net, pixels(image, "RGB"))
        _save(color_image(prediction, classes), out / f"{image.stem}_color.png")
        _save(prediction, out / f"{image.stem}.png")
        yield out / f"{image.stem}.png"


def _check_names(images: Sequence[Path], out: Path) -> None:
    taken = {image.resolve(): str(image) for image in images}
    for image in images:
        for path in (out / f"{image.stem}.png", out / f"{image.stem}_color.png"):
            there = taken.setdefault(path.resolve(), f"the map of {image}")
            if there != f"the map of {image}":
                raise ValueError(
                    f"{path}, the map of {image}, would replace {there}; accepted is another name or --out"
                )


def _save(picture: np.ndarray, path: Path) -> None:
    making = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        Image.fromarray(picture).save(making, "PNG")
        making.replace(path)  # so that Ctrl-C leaves no half of a map
    finally:
        making.unlink(missing_ok=True)
