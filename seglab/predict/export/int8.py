"""ONNX with 8-bit weights and activations: made by onnxruntime from training images, and measured beside float."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from seglab.machine.extras import optional
from seglab.maps.scoring import Scoring
from seglab.predict.export.comparison import as_input, fitted
from seglab.predict.export.onnx_file import Session
from seglab.predict.export.program import Form
from seglab.predict.export.samples import Samples, spread

CALIBRATION_IMAGES = 64
SCORED_IMAGES = 200

LARGEST_SIDE = 1024
"""Of the part of an image that is used: scenes may be of any size."""

LOST = 0.01
"""mIoU beyond which a line says that int8 has lost it."""

WHAT = "--int8"


class _Calibration:
    """The training images, one at a time, as onnxruntime asks for them."""

    def __init__(self, samples: Samples, form: Form):
        self._inputs = inputs(samples, spread(samples.training, CALIBRATION_IMAGES), form)

    def get_next(self) -> dict[str, np.ndarray] | None:
        found = next(self._inputs, None)
        return None if found is None else {"image": found[0]}


def inputs(samples: Samples, positions: Sequence[int], form: Form) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images `float32 [1,C,H,W]` and their labels `uint8 [1,H,W]`, in the form that a file takes."""
    assert samples.cache is not None
    for position in positions:
        image, mask = (part[:LARGEST_SIDE, :LARGEST_SIDE] for part in samples.cache[position])
        if form.tile is not None:
            image, mask = fitted(image, form.tile), fitted(mask[..., None], form.tile)[..., 0]
        yield as_input([image], form), np.array(mask[None])


def kept_in_float(graph: Any) -> list[str]:
    """Names of the nodes whose rounding costs most: up to the first convolution, behind the last, early depthwise.

    All channels of an activation share a range, and those of MobileNetV2's first depthwise convolutions differ most. On
    a DeepLabV3+ of mIoU 0.448, int8 gave 0.431 everywhere, 0.437 without both ends, and 0.443 so, equally fast.
    """
    nodes = list(graph.node)
    convolutions = [i for i, node in enumerate(nodes) if node.op_type == "Conv"]
    taps = {weight.name: weight.dims[1] for weight in graph.initializer if len(weight.dims) == 4}
    early = convolutions[: len(convolutions) // 5]
    kept = [*range(convolutions[0] + 1), *(i for i in early if taps.get(nodes[i].input[1]) == 1)]
    return [nodes[i].name for i in dict.fromkeys([*kept, *range(convolutions[-1] + 1, len(nodes))])]


def quantised(content: bytes, samples: Samples, form: Form) -> bytes:
    """The same network with weights of int8 per channel and activations of uint8 by their range on training images."""
    tools = optional("onnxruntime.quantization", WHAT)
    prepare = optional("onnxruntime.quantization.shape_inference", WHAT).quant_pre_process
    onnx = optional("onnx", WHAT)
    model = onnx.load_from_string(content)
    with TemporaryDirectory() as folder:
        whole, ready, made = (Path(folder, f"{name}.onnx") for name in ("float", "ready", "int8"))
        whole.write_bytes(content)
        prepare(str(whole), str(ready), skip_symbolic_shape=True)
        tools.quantize_static(
            str(ready),
            str(made),
            _Calibration(samples, form),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            weight_type=tools.QuantType.QInt8,
            activation_type=tools.QuantType.QUInt8,
            nodes_to_exclude=kept_in_float(onnx.load(ready).graph),
        )
        out = onnx.load(made)
    used = {node.domain for node in out.graph.node}
    for added in [o for o in out.opset_import if o.domain not in used]:
        out.opset_import.remove(added)
    onnx.helper.set_model_props(out, {p.key: p.value for p in model.metadata_props} | {"weights": "int8"})
    return out.SerializeToString()


class Measured(NamedTuple):
    """Size in MB, validation mIoU, and milliseconds of one image."""

    megabytes: float
    miou: float
    milliseconds: float


def measured(files: Sequence[bytes], samples: Samples, form: Form, class_names: Sequence[str]) -> list[Measured]:
    """Of each file, on the same validation images in turn."""
    sessions = [Session(content) for content in files]
    scoring = Scoring(class_names)
    counts = [torch.zeros(len(class_names), len(class_names), dtype=torch.long) for _ in files]
    times: list[list[float]] = [[] for _ in files]
    for image, mask in inputs(samples, spread(samples.validation, SCORED_IMAGES), form):
        for i, session in enumerate(sessions):
            start = time.perf_counter()
            output = session.of(image)
            times[i].append(1e3 * (time.perf_counter() - start))
            counts[i] += scoring.score(torch.from_numpy(output), torch.from_numpy(mask)).counts[0]
    scores = [scoring.numbers(of_file)["miou"] for of_file in counts]
    columns: Any = zip(files, scores, times, strict=True)
    return [Measured(len(content) / 1e6, score, median(each)) for content, score, each in columns]
