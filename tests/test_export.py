"""`seglab export`: files that compute what the checkpoint computes, for images of any size and for tools of QGIS."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import segmentation_models_pytorch as smp
import torch
import yaml
from PIL import Image
from segmentation_models_pytorch.decoders.deeplabv3.decoder import ASPPPooling, DeepLabV3PlusDecoder
from torch import nn

import seglab as package
from seglab.models.deeplabv3plus import Pooling, PoolingBatchNorm
from seglab.models.inference import for_inference
from seglab.models.network import Network
from seglab.models.rewrites import rewritten
from seglab.predict.export import export as exporting
from seglab.predict.export.comparison import compared
from seglab.predict.export.export import Wish, check_replaces, made, qgis
from seglab.predict.export.int8 import Measured
from seglab.predict.export.onnx_file import Session
from seglab.predict.export.program import Form, Program
from seglab.predict.export.samples import Samples
from seglab.predict.predict import load_network
from seglab.predict.tiles.scale import Scale
from seglab.run.folder import Run, runs_of

SIZES = ((1, 1), (4, 4), (32, 32), (21, 45))


@pytest.fixture
def run(copied, images: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    (run,) = runs_of(copied("epochs=1"))
    return run


def noise(*shape: int, high: float = 255) -> np.ndarray:
    return (high * np.random.default_rng(sum(shape)).random(shape)).astype(np.float32)


def facts(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def test_onnx_gives_the_logits_of_the_checkpoint(seglab, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    ended = seglab("export", run.folder, "--out", path)
    assert ended.code == 0
    checked, written = ended.out.splitlines()
    assert checked.startswith("checked in float32 on validation images of the run, 1x3x32x32, 2x3x32x32, 2x3x21x17, ")
    assert "largest difference" in checked and "100.000 % of the map pixels equal" in checked
    assert written == f"{path}: {path.stat().st_size / 1e6:.2f} MB"
    net = load_network(run)
    session = Session(path.read_bytes())
    for height, width in SIZES:
        image = noise(3, 3, height, width)
        with torch.no_grad():
            expected = net(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(session.of(image), expected, rtol=1e-4, atol=1e-4)
    known = facts(path)
    assert known["run"] == run.folder.name and known["identity"] == run.results()["identity"]
    assert known["seglab_version"] == package.__version__ and known["checkpoint"] == "last"
    assert list(json.loads(known["class_names"]).items())[1] == ("1", "building")
    assert json.loads(known["class_colors"])["1"] == "#d1495b" and json.loads(known["bands"]) == [1, 2, 3]
    model = onnx.load(path)
    names = [(v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in (
        *model.graph.input, *model.graph.output)]  # fmt: skip
    assert names == [("image", ["batch", 3, "height", "width"]), ("logits", ["batch", 4, "height", "width"])]
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)] and model.ir_version == 8


def test_torch_export_gives_the_logits_of_the_checkpoint(seglab, run: Run, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    ended = seglab("export", run.folder, "--format", "torch_export", "--out", path, "--data", images)
    assert ended.code == 0 and f"on validation images of {images}" in ended.out
    kept = {"metadata.json": ""}
    program = torch.export.load(path, extra_files=kept).module()
    assert json.loads(kept["metadata.json"])["run"] == run.folder.name
    net = load_network(run)
    for height, width in SIZES:
        image = torch.from_numpy(noise(2, 3, height, width))
        with torch.no_grad():
            torch.testing.assert_close(program(image), net(image), rtol=1e-4, atol=1e-4)


class Tiny(Network):
    """The layers of DeepLabV3+ behind an encoder of a few channels, for five bands of 16 bits."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            steps = [(5, 4, 1), (4, 4, 2), (4, 8, 2), (8, 8, 2), (8, 8, 2)]
            self.steps = nn.ModuleList(
                nn.Sequential(nn.Conv2d(a, b, 3, s, 1), nn.BatchNorm2d(b), nn.ReLU6(inplace=True)) for a, b, s in steps
            )

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            features = [x]
            for step in self.steps:
                features.append(step(features[-1]))
            return features[1:]

    def __init__(self) -> None:
        decoder = DeepLabV3PlusDecoder([4, 4, 8, 8, 8], 4, 8, (12, 24, 36), 16, True, 0.5)
        for module in decoder.modules():
            if isinstance(module, ASPPPooling):
                module.__class__ = Pooling
                module[2] = PoolingBatchNorm(8)
        head = smp.base.SegmentationHead(8, 3, kernel_size=1, upsampling=4)
        net = nn.Sequential()
        for name, part in {"encoder": self.Encoder(), "decoder": decoder, "segmentation_head": head}.items():
            net.add_module(name, part)
        super().__init__(rewritten(net), 16)
        self.take_rasters(5)
        self.set_value_range(np.arange(5) * 100.0, np.arange(5) * 100.0 + 4000)


def test_dilated_layers_pooling_and_a_range_of_values_leave_as_they_are() -> None:
    torch.manual_seed(0)
    net = Tiny()
    with torch.no_grad():
        for _ in range(2):
            net(torch.from_numpy(noise(2, 5, 64, 80, high=4000)))
        content, computed = made(net, Form(), {}, "onnx")
    sizes = ((2, 33, 70), (1, 16, 16), (3, 1, 1), (1, 200, 64))
    inputs = [noise(b, 5, h, w, high=5000) for b, h, w in sizes]
    found = compared(computed, Program(for_inference(net), Form()).of, inputs)
    assert found.small and found.of > 0.1 and found.equal > 0.999
    assert net.training and [o.version for o in onnx.load_from_string(content).opset_import] == [18]


@pytest.fixture
def tile(once, run: Run, seglab) -> Path:
    """A file for tiles of 32 pixels, as --for qgis writes it."""

    def make(folder: Path) -> None:
        tiles = ("--for", "qgis", "--tile", 32, "--overlap", 20, "--resolution", 30)
        assert seglab("export", run.folder, "--out", folder / "tile.onnx", *tiles).code == 0

    return once("tile", make) / "tile.onnx"


def test_int8_is_measured_beside_float(seglab, run: Run, tile: Path, tmp_path: Path, monkeypatch) -> None:
    content = tile.read_bytes()
    monkeypatch.setattr(exporting, "made", lambda *_: (content, Session(content).of))
    tiles = ("--for", "qgis", "--tile", 32, "--resolution", 30)
    ended = seglab("export", run.folder, "--out", tmp_path / "int8.onnx", *tiles, "--int8")
    assert ended.code == 0, ended.err
    checked, floating, integer, *warnings, written = ended.out.splitlines()
    assert "1x3x32x32, 2x3x32x32: largest difference" in checked and written.endswith(" MB")
    assert floating.startswith("float: ") and integer.startswith("int8: ")
    assert all(
        "validation mIoU 0." in line and f" ms an image ({torch.get_num_threads()} threads)" in line
        for line in (floating, integer)
    )
    assert len(warnings) <= 1
    model = onnx.load(tmp_path / "int8.onnx")
    assert {n.op_type for n in model.graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    assert [o.domain for o in model.opset_import] == [""] and model.ir_version == 8
    assert facts(tmp_path / "int8.onnx") == facts(tile) | {"weights": "int8"}


def test_whoever_resamples_by_the_file_is_not_told_to_resize(seglab, run: Run, tmp_path: Path, monkeypatch) -> None:
    smaller = Scale((0.5, 0.5), words="images are mapped at 0.5 times their size; a map is not", metres=0.25)
    monkeypatch.setattr(exporting, "scale_of", lambda *_: smaller)
    told = "images are mapped at 0.5 times their size: resize images so before this file sees them"
    assert told in seglab("export", run.folder, "--out", tmp_path / "a.onnx").out.splitlines()
    ended = seglab("export", run.folder, "--out", tmp_path / "b.onnx", "--for", "qgis", "--tile", 32)
    assert ended.code == 0 and "resize" not in ended.out and json.loads(facts(tmp_path / "b.onnx")["resolution"]) == 50


def test_lost_accuracy_of_int8_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    none = Samples(None, [], [], "")
    for lost, warned in ((0.011, True), (0.009, False), (float("nan"), True)):
        both = [Measured(4, 0.5, 10), Measured(1, 0.5 - lost, 5)]
        monkeypatch.setattr(exporting, "measured", lambda *_, both=both: both)
        *_, last = exporting._beside(b"", b"", none, Form(), ["a", "b"])
        assert last.startswith("warning: int8 loses " if warned else "int8: 1.00 MB")


@pytest.mark.filterwarnings("ignore:is_tiled will be removed:PendingDeprecationWarning")  # GeoDeep asks for it
def test_geodeep_and_deepness_read_what_they_need(run: Run, tile: Path, images: Path, tmp_path: Path) -> None:
    import geodeep
    import rasterio
    from geodeep.inference import create_session
    from scipy.ndimage import median_filter

    known = {key: json.loads(value) for key, value in facts(tile).items() if key in qgis.Tiles(resolution=1).facts(3)}
    assert known == {
        **{"model_type": "Segmentor", "resolution": 30.0, "tile_size": 32, "tiles_size": 32, "tiles_overlap": 20},
        **{"standardization_mean": [0, 0, 0], "standardization_std": [1, 1, 1]},
        **{"seg_thresh": 0, "seg_small_segment": 0},
    }
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        _, config = create_session(str(tile))
    assert (config["tiles_size"], config["tiles_overlap"], config["resolution"]) == (32, 20, 30)
    assert config["class_names"]["2"] == "vegetation" and config["model_type"] == "Segmentor"
    with Image.open(images / "data" / "0.png") as picture:
        pixels = np.asarray(picture).transpose(2, 0, 1)
    profile = {"driver": "GTiff", "width": 32, "height": 32, "count": 3, "dtype": "uint8", "photometric": "rgb"}
    place = rasterio.Affine(0.3, 0, 500_000, 0, -0.3, 4_000_000)
    with rasterio.open(tmp_path / "scene.tif", "w", **profile, crs="EPSG:32640", transform=place) as scene:
        scene.write(pixels)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        found = geodeep.run(str(tmp_path / "scene.tif"), str(tile), output_type="raw")
    expected = package.load(run.folder).predict(pixels.transpose(1, 2, 0))
    assert len(np.unique(expected)) > 1 and (found == median_filter(expected, 5)).all()


def test_no_file_appears_where_it_would_differ(seglab, run: Run, tmp_path: Path, monkeypatch) -> None:
    def wrong(net: Network, form: Form, *_):
        return b"seglab_version 2", lambda image: Program(for_inference(net), form).of(image) + wrong.by

    monkeypatch.setattr(exporting, "made", wrong)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08 seglab_version 1")
    for by in (1.0, float("nan")):
        wrong.by = by
        ended = seglab("export", run.folder, "--out", path)
        assert ended.code == 1 and "differs from the checkpoint: largest difference " in ended.err
        assert path.read_bytes() == b"\x08\x08 seglab_version 1" and list(tmp_path.glob(".model*")) == []
    wrong.by = 0.0
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "none"))
    ended = seglab("export", run.folder, "--out", path)
    assert ended.code == 0 and path.read_bytes() == b"seglab_version 2"
    assert f"checked in float32 on drawn images ({tmp_path / 'none'} holds no decoded copy" in ended.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--int8", "--format", "torch_export"), "--int8: accepted is --format onnx"),
        (("--for", "qgis", "--format", "torch_export"), "--for qgis: accepted is --format onnx"),
        (("--tile", "64"), "--tile, --overlap and --resolution: accepted with --for qgis"),
        (("--for", "qgis", "--tile", "20000"), "--tile 20000: accepted are 1 to"),
        (("--for", "qgis", "--overlap", "95"), "--overlap 95: accepted are 0 to 90 percent"),
        (("--for", "qgis"), "the run does not tell the resolution of its images; --resolution CM"),
        (("--out", "none/model.onnx"), "--out none/model.onnx: no folder none"),
        (
            ("--out", "model.pt2"),
            "--out model.pt2: accepted is model.onnx for --format onnx, and --format torch_export for .pt2",
        ),
        (("--out", "picture.png"), "--out picture.png: would replace something that is no export of seglab"),
        (("--data", "none"), "none"),
    ],
)
def test_wrong_wishes_are_one_line(seglab, run: Run, tmp_path: Path, monkeypatch, options, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("picture.png").write_text("mine")
    ended = seglab("export", run.folder, "--out", "new.onnx", *options)
    assert ended.code == 1 and message in ended.err and ended.err.count("\n") == 1
    assert Path("picture.png").read_text() == "mine" and not Path("new.onnx").exists()


def test_int8_needs_training_images(seglab, run: Run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "none"))
    ended = seglab("export", run.folder, "--out", tmp_path / "m.onnx", "--int8")
    assert ended.code == 1 and "--int8 measures activations on training images, and there are drawn images" in ended.err


def test_a_missing_library_names_the_extra(seglab, run: Run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    ended = seglab("export", run.folder, "--out", tmp_path / "m.onnx")
    assert ended.code == 1 and ended.err == "seglab: --format onnx needs onnxscript: pip install 'seglab[export]'\n"


def test_a_run_folder_from_elsewhere_runs_nothing(seglab, run: Run, tmp_path: Path) -> None:
    config = run.config()
    config["model"] = {"_target_": "os.system", "command": f"touch {tmp_path / 'ran'}"}
    run.config_file.write_text(yaml.safe_dump(config))
    ended = seglab("export", run.folder, "--out", tmp_path / "m.onnx")
    assert ended.code == 1 and "model._target_='os.system': in the config of a run folder" in ended.err
    assert list(tmp_path.glob("ran")) + list(tmp_path.glob("m.onnx")) == []


def test_tools_of_qgis_agree_on_8_bits_only() -> None:
    assert qgis.notes(3, "uint8") == [] and "GeoDeep takes three bands only" in qgis.notes(5, "uint8")[0]
    with pytest.raises(ValueError, match="the images have uint16 pixels, which GeoDeep divides by 65535"):
        qgis.notes(3, "uint16")
    assert qgis.Tiles().at(0.25).resolution == 25 and qgis.Tiles(resolution=7).at(0.25).resolution == 7
    with pytest.raises(ValueError, match="--format pt: accepted are onnx, torch_export"):
        Wish("pt")


def test_a_text_that_tells_a_version_is_no_export(tmp_path: Path) -> None:
    for name, content, accepted in (
        ("notes.txt", b"seglab_version: 1", False),
        ("other.onnx", b"\x08\x08 of another program", False),
        ("own.onnx", b"\x08\x08 seglab_version", True),
    ):
        (tmp_path / name).write_bytes(content)
        if accepted:
            check_replaces(tmp_path / name, "onnx")
            continue
        with pytest.raises(ValueError, match="no export of seglab"):
            check_replaces(tmp_path / name, "onnx")
