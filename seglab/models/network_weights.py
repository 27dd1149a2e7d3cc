"""All weights of a network from a file: another training's result to start from."""

import logging
from pathlib import Path

from torch import Tensor, nn

from seglab.models.weight_files import SUFFIXES, WeightsError, fitting, put, read_state, without_prefixes

log = logging.getLogger(__name__)

ACCEPTED = (
    f"accepted is a file ({', '.join(SUFFIXES)}) with all weights of this model by smp's names (encoder.*, decoder.*, "
    "segmentation_head.*), or a checkpoint of seglab"
)


def check_one_source(encoder_weights: str | None, weights: str | None) -> None:
    """ValueError where both are given: `weights` holds the encoder's too."""
    if encoder_weights is not None and weights is not None:
        raise WeightsError(
            f"encoder_weights={encoder_weights!r} and weights={weights!r}: accepted is one of the two; "
            "weights holds the encoder's too"
        )


def load_weights(net: nn.Module, weights: str | None) -> None:
    """Put the file `weights` into `net`, whose parts have smp's names; None leaves it as it is.

    Raises WeightsError, and then the network is unchanged.
    """
    if weights is None:
        return
    if not weights.endswith(SUFFIXES):
        raise WeightsError(f"weights={weights!r}: {ACCEPTED}")
    try:
        state = without_prefixes(read_state(Path(weights)))
        check_bands(state, net.state_dict())
        check_classes(state, net.state_dict())
        put(fitting(state, net.state_dict(), ("classification_head.",)), net)
    except WeightsError as error:
        raise WeightsError(f"weights {weights}: {error}; {ACCEPTED}") from error.__cause__
    log.info("weights from %s", weights)


def check_bands(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """WeightsError where the first convolutions of the two are of the same kind but for another number of bands."""
    name = next(name for name, value in expected.items() if name.startswith("encoder.") and value.ndim == 4)
    ours, theirs = expected[name].shape, state.get(name, expected[name]).shape
    if len(theirs) == 4 and theirs[1] != ours[1] and (theirs[0], theirs[2:]) == (ours[0], ours[2:]):
        raise WeightsError(f"its network takes {theirs[1]} bands, the data have {ours[1]}")


def check_classes(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """WeightsError where the heads of the two are of the same kind but for another number of classes."""
    for name, value in expected.items():
        theirs = state.get(name, value).shape
        if name.startswith("segmentation_head.") and theirs[1:] == value.shape[1:] and theirs != value.shape:
            raise WeightsError(f"its network has {theirs[0]} classes, the data {value.shape[0]}")
