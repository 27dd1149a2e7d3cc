"""A run -> one file that other programs compute its maps with, compared with its checkpoint before it appears."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import seglab
from seglab.config.foreign import check_model
from seglab.config.read import read
from seglab.config.schema import Config
from seglab.machine.files import replacing
from seglab.models.inference import for_inference
from seglab.models.network import Network
from seglab.predict.export import qgis
from seglab.predict.export.comparison import TOLERANCE, Computed, batches, compared
from seglab.predict.export.int8 import LOST, measured, quantised
from seglab.predict.export.onnx_file import Session, onnx_of
from seglab.predict.export.program import Form, Program, traced
from seglab.predict.export.samples import Samples, samples_of
from seglab.predict.tiles.scale import Scale, scale_of
from seglab.predict.trained import in_precision, precision_on, trained_network
from seglab.run.folder import Run

FORMATS = {"onnx": ".onnx", "torch_export": ".pt2"}
"""How the names of files usually end."""

COMPARED_IMAGES = 3

MARK = "seglab_version"
"""Metadata by which an export is known."""

BEGINNINGS = (bytes([8]), b"PK\3\4")
"""The first bytes of ONNX (the field of its version), and of torch's archives."""


@dataclass(frozen=True)
class Wish:
    """Settings of an export. `root`: where the run's images are, else the user's own cache."""

    format: str = "onnx"
    checkpoint: str = "last"
    tiles: qgis.Tiles | None = None
    int8: bool = False
    root: Path | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"--format {self.format}: accepted are {', '.join(FORMATS)}")
        for option, wanted in (("--int8", self.int8), ("--for qgis", self.tiles is not None)):
            if wanted and self.format != "onnx":
                raise ValueError(f"{option}: accepted is --format onnx")


def export(run: Run, out: Path, wish: Wish) -> Iterator[str]:
    """Writes a file and yields a line for each thing that its user must know.

    A run folder is untrusted, as for maps. Raises ValueError, one line, and then nothing is written.
    """
    check_replaces(out, wish.format)
    config = check_model(read(run))
    net = trained_network(run, config, wish.checkpoint)
    samples = samples_of(run, config, wish.root)
    if wish.int8 and not samples.training:
        raise ValueError(f"--int8 measures activations on training images, and there are {samples.words}")
    scale = scale_of(run)
    facts = facts_of(run, config, net, wish)
    form = Form()
    if wish.tiles is not None:
        yield from qgis.notes(net.bands, samples.dtype_of(net))
        tiles = wish.tiles.at(metres_seen(scale))
        form = tiles.form
        facts |= tiles.facts(net.bands)
    content, computed = made(net, form, facts, wish.format)
    yield from _checked(net, config, form, computed, samples)
    if scale.words and wish.tiles is None:  # the tools of --for resample images themselves, by the resolution in it
        yield f"{scale.words.partition(';')[0]}: resize images so before this file sees them"
    if wish.int8:
        small = quantised(content, samples, form)
        yield from _beside(content, small, samples, form, list(config.classes))
        content = small
    with replacing(out) as f:
        f.write(content)
    yield f"{out}: {len(content) / 1e6:.2f} MB"


def check_replaces(out: Path, format: str) -> None:
    """Raises ValueError for what is no export, or named like another format; OSError where there is no folder."""
    if out.suffix in {*FORMATS.values()} - {FORMATS[format]}:
        other = next(name for name, suffix in FORMATS.items() if suffix == out.suffix)
        accepted = f"accepted is {out.stem}{FORMATS[format]} for --format {format}, and --format {other}"
        raise ValueError(f"--out {out}: {accepted} for {out.suffix}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: no folder {out.parent}")
    if out.exists() and not _is_export(out):
        raise ValueError(f"--out {out}: would replace something that is no export of seglab; accepted is another name")


def _is_export(path: Path) -> bool:
    """True if it is a file that an export wrote: it begins as one and names the mark."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4)
        return head.startswith(BEGINNINGS) and MARK.encode() in head + file.read()


def metres_seen(scale: Scale) -> float | None:
    """Side of a pixel that the network sees, in metres; None where it is not known or differs between images."""
    if scale.metres is None or scale.size is not None:
        return None
    return scale.metres / (scale.factors[0] * scale.factors[1]) ** 0.5


def facts_of(run: Run, config: Config, net: Network, wish: Wish) -> dict[str, str]:
    """Metadata of a file: which run it is, and what goes in and comes out."""
    numbered = [{str(i): text for i, text in enumerate(texts)} for texts in (config.classes, config.classes.values())]
    facts: dict[str, object] = {
        "class_names": numbered[0],
        "class_colors": numbered[1],
        "bands": config.bands or [1, 2, 3],
    }
    if net.of_rasters:
        facts["value_range"] = [[float(v) for v in pair] for pair in zip(net.low, net.high, strict=True)]
    run_facts = {"run": run.folder.resolve().name, "identity": run.results().get("identity", "")}
    return {MARK: seglab.__version__, **run_facts, "checkpoint": wish.checkpoint} | {
        key: json.dumps(value) for key, value in facts.items()
    }


def made(net: Network, form: Form, facts: Mapping[str, str], format: str) -> tuple[bytes, Computed]:
    """The content of a file, and what another program computes with it."""
    program = traced(net, form, net.bands)
    if format == "onnx":
        content = onnx_of(program, form.output, facts)
        return content, Session(content).of
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"metadata.json": json.dumps(dict(facts))})
    loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()

    def computed(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return loaded(torch.from_numpy(image)).numpy()

    return buffer.getvalue(), computed


def _checked(net: Network, config: Config, form: Form, computed: Computed, samples: Samples) -> Iterator[str]:
    """Lines on how far the file is from the checkpoint. Raises ValueError if it is too far."""
    inputs = list(batches(samples.images(COMPARED_IMAGES, net), form))
    found = compared(computed, Program(for_inference(net), form).of, inputs)
    if not found.small:
        raise ValueError(
            f"the exported network differs from the checkpoint: {found}; accepted is {TOLERANCE:g} of the largest "
            "output, so no file is written"
        )
    yield f"checked in float32 on {samples.words}, {', '.join(found.sizes)}: {found}"
    precision = precision_on(config, "cpu")
    if precision != "32":
        own = Program(in_precision(for_inference(net), precision), form)
        equal = compared(computed, own.of, inputs).equal
        yield f"the run computes its maps in {precision}: {100 * equal:.3f} % of the map pixels equal"


def _beside(content: bytes, small: bytes, samples: Samples, form: Form, class_names: list[str]) -> Iterator[str]:
    """Lines on size, score and speed of int8 beside float."""
    floating, integer = measured([content, small], samples, form, class_names)
    for name, one in (("float", floating), ("int8", integer)):
        yield (
            f"{name}: {one.megabytes:.2f} MB, validation mIoU {one.miou:.4f}, {one.milliseconds:.1f} ms an image "
            f"({torch.get_num_threads()} threads)"
        )
    if not floating.miou - integer.miou <= LOST:
        yield f"warning: int8 loses {floating.miou - integer.miou:.4f} of mIoU, more than {LOST:g}; keep the float file"
