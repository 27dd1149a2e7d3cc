"""Pretrained weights for the MobileNetV2 encoder: ImageNet's from the hub, or a local file in a usual form."""

import logging
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from segmentation_models_pytorch.encoders import encoders
from torch import Tensor, nn

from seglab.models.weight_files import SUFFIXES, WeightsError, fitting, put, read_state, without_prefixes

log = logging.getLogger(__name__)

ENCODER = "mobilenet_v2"
FIRST = "features.0.0.weight"
"""Name of the first convolution's weights within the encoder, in torchvision's and in smp's."""

ACCEPTED = (
    f"accepted is a state dict of MobileNetV2 ({', '.join(SUFFIXES)}) with torchvision's names (features.*, "
    "classifier.*), as in its mobilenet_v2-*.pth, or smp's (encoder.features.* and a decoder, or features.* alone)"
)


def load_encoder_weights(encoder: nn.Module, weights: str | None) -> None:
    """Put `weights` into the encoder: None leaves it random, "imagenet" downloads, all else is the path of a file.

    Raises WeightsError, and then the encoder is unchanged.
    """
    if weights is None:
        return
    if weights != "imagenet" and not weights.endswith(SUFFIXES):
        raise WeightsError(
            f"encoder_weights={weights!r}: accepted are null (random), imagenet, "
            f"or the path of a file that ends in {', '.join(SUFFIXES)}"
        )
    path = imagenet_file() if weights == "imagenet" else Path(weights)
    expected = encoder.state_dict()
    try:
        state = for_bands(without_prefixes(read_state(path)), expected[FIRST].shape[1])
        put(encoder_state(state, expected), encoder)
    except WeightsError as error:
        raise WeightsError(f"encoder weights {path}: {error}; {ACCEPTED}") from error.__cause__
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
    except Exception as error:  # whatever the reason, a local file is the solution
        reason = str(error).replace(url, "it").strip().split("\n")[0] or type(error).__name__
        raise WeightsError(
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


def for_bands(state: dict[str, Tensor], bands: int) -> dict[str, Tensor]:
    """The state with a first convolution for so many bands, as smp adapts it from three channels, and says so.

    Band i has the weights of channel i % 3, all times 3 / bands so that the sums keep their size; one band has the sum
    of the three. Weights for another number than three are left as they are.
    """
    names = [name for name in state if name == FIRST or name.endswith(f".{FIRST}")]
    if bands == 3 or len(names) != 1 or state[names[0]].ndim != 4 or state[names[0]].shape[1] != 3:
        return state
    weight = state[names[0]]
    each = weight[:, [i % 3 for i in range(bands)]] * (3 / bands)
    log.info("the encoder's first convolution is adapted from 3 channels to %d band%s", bands, "s" * (bands > 1))
    return state | {names[0]: weight.sum(1, keepdim=True) if bands == 1 else each}


def encoder_state(state: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `state` under the names of `expected`, without those of a decoder, a head or a classifier.

    Raises WeightsError for missing, unknown and misshapen tensors, and for numbers that are not finite.
    """
    prefix = ""
    others: tuple[str, ...] = ("classifier.",)
    if any(name.startswith("encoder.") for name in state):
        prefix = "encoder."
        others = ("decoder.", "segmentation_head.", "classification_head.")
    own = fitting(state, {prefix + name: value for name, value in expected.items()}, others)
    return {name.removeprefix(prefix): value for name, value in own.items()}
