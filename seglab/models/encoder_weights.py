"""Pretrained weights for the MobileNetV2 encoder: ImageNet's from the hub, or a local file in a usual form."""

import logging
from pathlib import Path

import safetensors.torch
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from segmentation_models_pytorch.encoders import encoders
from torch import Tensor, nn

log = logging.getLogger(__name__)

ENCODER = "mobilenet_v2"
SUFFIXES = (".pth", ".pt", ".safetensors")
ACCEPTED = (
    f"accepted is a state dict of MobileNetV2 ({', '.join(SUFFIXES)}) with torchvision's names (features.*, "
    "classifier.*), as in its mobilenet_v2-*.pth, or smp's (encoder.features.* and a decoder, or features.* alone)"
)


class EncoderWeightsError(ValueError):
    """The encoder's weights cannot be had: not downloaded, not readable, or not those of this encoder."""


def load_encoder_weights(encoder: nn.Module, weights: str | None) -> None:
    """Put `weights` into the encoder: None leaves it random, "imagenet" downloads, all else is the path of a file.

    Raises EncoderWeightsError, and then the encoder is unchanged.
    """
    if weights is None:
        return
    if weights != "imagenet" and not weights.endswith(SUFFIXES):
        raise EncoderWeightsError(
            f"encoder_weights={weights!r}: accepted are null (random), imagenet, "
            f"or the path of a file that ends in {', '.join(SUFFIXES)}"
        )
    path = imagenet_file() if weights == "imagenet" else Path(weights)
    try:
        encoder.load_state_dict(encoder_state(read_state(path), encoder.state_dict()))
    except EncoderWeightsError as error:
        raise EncoderWeightsError(f"encoder weights {path}: {error}; {ACCEPTED}") from error.__cause__
    log.info("encoder weights from %s", path)


def imagenet_file() -> Path:
    """The weights smp publishes for this encoder, from the hub's cache or downloaded into it."""
    source = encoders[ENCODER]["pretrained_settings"]["imagenet"]
    name = {"repo_id": source["repo_id"], "filename": "model.safetensors", "revision": source["revision"]}
    url = hf_hub_url(**name)
    try:
        if not isinstance(try_to_load_from_cache(**name), str):
            _ask_hub(url)
        return Path(hf_hub_download(**name))
    except Exception as error:  # whatever it is, the way out is the same
        reason = str(error).replace(url, "it").strip().split("\n")[0] or type(error).__name__
        raise EncoderWeightsError(
            f"the ImageNet weights of {ENCODER} could not be downloaded from {url} ({reason}); "
            f"use a local file instead, model.encoder_weights=/path/to/{ENCODER}.pth: "
            f"torchvision's {ENCODER}-*.pth does"
        ) from error


def _ask_hub(url: str) -> None:
    """One request that fails at once where there is no network; the download itself would retry for 23 s first."""
    try:
        get_hf_file_metadata(url, timeout=10)
    except HfHubHTTPError:
        log.debug("the hub answered with an error: the download decides whether to retry", exc_info=True)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; nothing but tensors is ever unpickled. Raises EncoderWeightsError."""
    if not path.is_file():
        raise EncoderWeightsError("there is no such file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip, torch and safetensors each raise their own for a file they can't read
        raise EncoderWeightsError(f"not readable as tensors ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise EncoderWeightsError("holds something else than tensors by name")
    return state


def encoder_state(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `state` under the names of `expected`, without those of a decoder, a head or a classifier.

    Raises EncoderWeightsError for missing, unknown and misshapen tensors.
    """
    prefix = ""
    others: tuple[str, ...] = ("classifier.",)
    if any(name.startswith("encoder.") for name in state):
        prefix, others = "encoder.", ("decoder.", "segmentation_head.", "classification_head.")
    kept = {name: value for name, value in state.items() if not name.startswith(others)}
    own = {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}
    # Files written before torch 0.4.1 have no such counters, and nothing here reads them.
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    problems = {
        "missing": [name for name in needed if name not in own],
        "unknown": [name for name in kept if not name.startswith(prefix) or name.removeprefix(prefix) not in expected],
        "misshapen": [
            f"{name} {list(own[name].shape)} instead of {list(value.shape)}"
            for name, value in expected.items()
            if name in own and own[name].shape != value.shape
        ],
    }
    found = [f"{len(names)} {kind}, like {names[0]}" for kind, names in problems.items() if names]
    if found:
        raise EncoderWeightsError("tensors " + "; ".join(found))
    if len(kept) < len(state):
        log.info("left out %d tensors that are not the encoder's: %s", len(state) - len(kept), "*, ".join(others) + "*")
    return own
