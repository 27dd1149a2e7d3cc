"""Files of weights: tensors by name, without what a trainer put around them, compared with those of a module."""

import logging
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
PREFIXES = ("module.", "model.", "net.")
"""Names of the network inside a trainer: in DataParallel, in Lightning modules, in seglab's own task and network."""


class WeightsError(ValueError):
    """Weights cannot be had: not downloaded, not readable, or not those of this module."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, of its `state_dict` if it has one. Raises WeightsError.

    Nothing but tensors, numbers and containers of them is ever unpickled.
    """
    if not path.is_file():
        raise WeightsError("there is no such file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip, torch and safetensors each raise their own for a file they can't read
        raise WeightsError(f"not readable as tensors ({type(error).__name__})") from error
    if isinstance(state, Mapping):
        state = state.get("state_dict", state)
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise WeightsError("holds something else than tensors by name")
    return dict(state)


def without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the network that is in a trainer, by the names that the network itself gives them."""
    for prefix in PREFIXES:
        inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if inner:
            _say_left_out([name for name in state if not name.startswith(prefix)])
            return without_prefixes(inner)
    return state


def fitting(state: dict[str, Tensor], expected: dict[str, Tensor], others: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of `state` if they are those `expected`; names that begin with one of `others` are left out.

    Raises WeightsError for missing, unknown and misshapen tensors, and for numbers that are not finite.
    """
    own = {name: value for name, value in state.items() if not name.startswith(others)}
    # Files written before torch 0.4.1 have no such counters, and nothing here reads them.
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    common = [name for name in expected if name in own]
    problems = {
        "missing": [name for name in needed if name not in own],
        "unknown": [name for name in own if name not in expected],
        "misshapen": [
            f"{name} {list(own[name].shape)} instead of {list(expected[name].shape)}"
            for name in common
            if own[name].shape != expected[name].shape
        ],
        "with NaN or infinity": [name for name in common if not own[name].isfinite().all()],
    }
    found = [f"{len(names)} {kind}, like {names[0]}" for kind, names in problems.items() if names]
    if found:
        raise WeightsError("tensors " + "; ".join(found))
    _say_left_out([name for name in state if name not in own])
    return own


def put(state: dict[str, Tensor], module: nn.Module) -> None:
    """Copies tensors that fit into `module`; not into one on the meta device, which has no values."""
    if not any(parameter.is_meta for parameter in module.parameters()):
        module.load_state_dict(state)


def _say_left_out(names: list[str]) -> None:
    if names:
        parts = sorted({name.split(".")[0] for name in names})
        log.info("left out %d tensors that belong to something else: %s", len(names), ", ".join(parts))
