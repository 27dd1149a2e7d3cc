"""Run folders -> networks that are ready for maps, which several runs make together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from seglab.config.foreign import check_model
from seglab.config.parts import build_model
from seglab.config.read import read
from seglab.config.schema import Config, ConfigError
from seglab.machine.precision import autocast, resolved_precision
from seglab.models.inference import for_inference
from seglab.models.network import Network
from seglab.predict.output.resume import digest_of
from seglab.predict.tiles.scale import Scale, common_scale
from seglab.run import checkpoints
from seglab.run.folder import Run


def load_network(run: Run, checkpoint: str = "last", device: str = "cpu") -> Network:
    """The trained network of a run, ready for maps. Raises ValueError for a checkpoint that can't be read.

    It computes in the precision in which the run was scored, on whatever device, and gives logits in float32.
    """
    config = check_model(read(run))
    return ready(trained_network(run, config, checkpoint), config, device)


def trained_network(run: Run, config: Config, checkpoint: str = "last") -> Network:
    """The network as training left it, of a config that `check_model` gave. Raises ValueError.

    A run folder is untrusted: its config may only name models of conf/model, its checkpoint only hold weights.
    """
    path = checkpoint_of(run, checkpoint)
    weights = checkpoints.weights(path, run)
    if _sizes(_expected(config)) != _sizes(weights):
        raise ValueError(f"{path}: not a readable checkpoint of this run (its weights are those of another model)")
    net = build_model(config)
    net.load_state_dict(weights)
    return net


def ready(net: Network, config: Config, device: str) -> Network:
    """A copy of a network for maps on a device."""
    return in_precision(for_inference(net), precision_on(config, device)).to(device)


def precision_on(config: Config, device: str) -> str:
    """The precision in which a run is scored on a device: that of its training, which its folder holds."""
    at = torch.device(device)
    return resolved_precision(config.precision, "cpu" if at.type == "cpu" else "auto", at.index or 0)


def checkpoint_of(run: Run, checkpoint: str) -> Path:
    """The file of the weights after the last epoch, or the best."""
    return {"last": run.last_checkpoint, "best": run.best_checkpoint}[checkpoint]


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


def device_of(asked: str) -> str:
    """The device of this name; `auto` is a GPU where torch sees one. Raises ValueError for one that is not there."""
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else []), *(["mps"] if torch.mps.is_available() else [])]
    if asked == "auto":
        return "cuda" if "cuda" in there else "cpu"
    kind, colon, number = asked.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in there or (colon and not (number.isdecimal() and int(number) < count)):
        raise ValueError(f"--device {asked}: not on this machine; accepted are auto, {', '.join(there)}")
    return asked


@dataclass(frozen=True)
class Trained:
    """Runs whose maps are one: `classes` are names and colours, `bands` as open_raster takes them."""

    runs: Sequence[Run]
    nets: Sequence[Network]
    classes: Mapping[str, str]
    bands: list[int] | None
    scale: Scale
    checkpoint: str

    @property
    def name(self) -> str:
        """The names of the run folders."""
        return " + ".join(run.folder.resolve().name for run in self.runs)

    @cached_property
    def digest(self) -> str:
        """Letters that stand for the networks and what computes them."""
        files = [f for run in self.runs for f in (run.config_file, checkpoint_of(run, self.checkpoint))]
        device = next(self.nets[0].parameters()).device.type
        return digest_of([torch.__version__, device], *files)


def load(
    runs: Sequence[Run],
    checkpoint: str = "last",
    device: str = "cpu",
    scale: float | None = None,
    resolution: str | None = None,
) -> Trained:
    """The networks of runs. Raises ValueError where they differ in classes, bands, or the scale of their maps."""
    configs = [read(run) for run in runs]
    first = configs[0]
    for run, config in zip(runs, configs, strict=True):
        for what, own, others in (
            ("classes", ", ".join(config.classes), ", ".join(first.classes)),
            ("bands", config.bands, first.bands),
        ):
            if own != others:
                raise ValueError(
                    f"{run.folder}: {what} {own}, and {runs[0].folder} has {others}; accepted are runs with the same"
                )
    one = common_scale(runs, scale, resolution)
    nets = [load_network(run, checkpoint, device) for run in runs]
    return Trained(runs, nets, first.classes, first.bands, one, checkpoint)
