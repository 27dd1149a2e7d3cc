"""A run and images of any size -> maps."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from seglab.config.constructors import check_node
from seglab.config.parts import build_model
from seglab.config.read import read
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
    folder is untrusted: its config may only name our classes, and its checkpoint only hold tensors.
    """
    config = read(run)
    if "encoder_weights" in config.model:
        config = config.but(model={**config.model, "encoder_weights": None})  # the checkpoint has all weights
    check_node("model", config)
    net = build_model(config)
    path = {"last": run.last_checkpoint, "best": run.best_checkpoint}[checkpoint]
    if checkpoints.read(path, run) is None:
        raise ValueError(f"{path}: not a readable checkpoint of this run")
    try:
        net.load_state_dict({k[4:]: v for k, v in checkpoints.state_dict(path).items() if k.startswith("net.")})
    except RuntimeError as e:
        raise ValueError(f"{path}: not a readable checkpoint of this run ({str(e).splitlines()[0]})") from e
    return in_precision(for_inference(net), resolved_precision(config.precision, "cpu"))


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
