"""Models of any number of bands, and a training on polygons over five bands of 16 bits."""

import logging
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders._utils import patch_first_conv

from seglab.config.compose import composed
from seglab.config.parts import build_model
from seglab.config.schema import ConfigError
from seglab.data.files.rasters import open_raster
from seglab.maps.scoring import predict, probabilities
from seglab.models.encoder_weights import FIRST
from seglab.models.network import Network
from seglab.models.unet import UNet
from seglab.models.unet_mobilenetv2 import UNetMobileNetV2
from seglab.predict.evaluation.evaluate import Wish, evaluate
from seglab.predict.predict import load_network
from seglab.run.folder import Run, runs_of
from tests.conftest import SMALL_NET, run_train
from tests.polygons import rectangle, write_polygons
from tests.test_rasters import written

RASTER = ["data=raster", "data.root=x"]


@pytest.mark.parametrize("bands", [1, 2, 4, 5, 7])
def test_a_pretrained_first_convolution_is_adapted_as_smp_does(tmp_path: Path, bands: int, caplog) -> None:
    encoder = smp.encoders.get_encoder("mobilenet_v2", weights=None)
    torch.save(encoder.state_dict(), tmp_path / "m.pth")
    patch_first_conv(encoder, bands)
    caplog.set_level(logging.INFO)
    net = UNetMobileNetV2(2, encoder_weights=str(tmp_path / "m.pth"), in_channels=bands)
    found, want = net.encoder.state_dict(), encoder.state_dict()
    assert torch.equal(found[FIRST], want[FIRST]) and found[FIRST].shape[1] == bands
    assert all(torch.equal(found[name], value) for name, value in want.items())
    assert f"first convolution is adapted from 3 channels to {bands} band" in caplog.text


@pytest.mark.parametrize("name", ["unet", "unet_mobilenetv2", "deeplabv3plus"])
def test_every_model_takes_the_bands_of_the_data(name: str) -> None:
    config = composed([*RASTER, "data.bands=[1,2,3,4,5]", f"model={name}", *(SMALL_NET[1:] if name == "unet" else [])])
    net = build_model(config).eval()
    net.set_value_range([0] * 5, [9] * 5)
    assert net.bands == 5 and net(torch.ones(1, 5, 32, 48)).shape == (1, 4, 32, 48)


class OfThree(UNet):
    def __init__(self, num_classes: int):
        super().__init__(num_classes, 4, 1)


def test_a_model_without_in_channels_takes_three_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGLAB_TRUST", "tests")
    own = composed([*RASTER, "model=unet"]).but(model={"_target_": "tests.test_bands.OfThree"})
    assert build_model(own).of_rasters
    with pytest.raises(ConfigError, match=r"^data.bands=\[1, 2\]: OfThree takes 3 bands, since its constructor has no"):
        build_model(own.but(data={**own.data, "bands": [1, 2]}))
    with pytest.raises(ConfigError, match=r"model.in_channels: no such key of UNet"):
        composed([*RASTER, "model=unet", "+model.in_channels=3"])


def test_weights_of_another_number_of_bands_are_one_line(tmp_path: Path) -> None:
    torch.save(UNet(2, 4, 1).net.state_dict(), tmp_path / "three.pth")
    with pytest.raises(ValueError, match=r"three.pth: its network takes 3 bands, the data have 5") as raised:
        UNet(2, 4, 1, weights=str(tmp_path / "three.pth"), in_channels=5)
    assert "\n" not in str(raised.value)


def draw(root: Path, kind: str) -> None:
    """Six scenes of five bands in which each class is bright in a band of its own, labelled by polygons."""
    (root / "data").mkdir()
    for i in range(6):
        rng = np.random.default_rng(i)
        values = rng.integers(1000, 3000, (5, 32, 32))
        places = rng.integers(0, 24, (3, 2))
        for band, (x, y) in enumerate(places):
            values[band, y : y + 8, x : x + 8] += 6000
        values[:, :2, :3] = 0
        written(root / "data" / f"{i}.tif", values.astype(kind), nodata=0)
        shapes = [rectangle(x, y, 8, 8) for x, y in places]
        write_polygons(root / "label" / f"{i}.gpkg", shapes, ["building", "vegetation", "water"])
    (root / "scenes.csv").write_text("name,scene\n" + "".join(f"{i},s{i // 2}\n" for i in range(6)))


HOW = ("data=raster", "data.bands=[1,2,3,4,5]", "data.reader.outside=background", "epochs=2", "loss=dice")


def trained(root: Path, out: Path, *overrides: str) -> Run:
    assert run_train(root, out, (*HOW, *overrides)) == ""
    (run,) = runs_of(out / "default")
    return run


@pytest.fixture(scope="module")
def five(once) -> Path:
    """Two sets of the same values in two depths, and a run on the first."""

    def make(folder: Path) -> None:
        for kind in ("uint16", "float32"):
            (folder / kind).mkdir()
            draw(folder / kind, kind)
        trained(folder / "uint16", folder / "out")

    return once("five", make)


def test_a_training_on_five_bands_and_polygons_maps_by_its_checkpoint(five: Path) -> None:
    (run,) = runs_of(five / "out" / "default")
    net = load_network(run)
    assert isinstance(net, Network) and net.bands == 5 and run.environment()["resolution"] == 0.5
    assert run.metrics()[-1]["val/miou"] > 0
    for name in (path.stem for path in run.records.maps.iterdir()):
        with open_raster(five / "uint16" / "data" / f"{name}.tif", [1, 2, 3, 4, 5]) as raster:
            image = raster.read(0, 0, 32, 32)
        each = probabilities(net, image.values)
        assert each.shape == (4, 32, 32) and np.allclose(each.sum(0), 1, atol=1e-5)
        assert (predict(net, image.values) == run.records.map(name)).all()
        assert image.hidden is not None and image.hidden[:2, :3].all()


def test_it_is_evaluated_as_it_was_validated_whole_and_by_tiles(five: Path, tmp_path: Path, monkeypatch) -> None:
    (run,) = runs_of(five / "out" / "default")
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    for tile in (None, 32):
        found = evaluate(run, Wish(root=five / "uint16", out=tmp_path / "out", tile=tile))
        assert found.content["scores"] == run.results()["val"] and found.notes == []


def test_low_and_high_are_percentiles_of_what_trains_without_void(five: Path) -> None:
    (run,) = runs_of(five / "out" / "default")
    net = load_network(run)
    scored = {path.stem for path in run.records.maps.iterdir()}
    pixels = []
    for i in range(6):
        if str(i) not in scored:
            with open_raster(five / "uint16" / "data" / f"{i}.tif", [1, 2, 3, 4, 5]) as raster:
                image = raster.read(0, 0, 32, 32)
            pixels.append(image.values[~image.hidden])
    want = np.percentile(np.concatenate(pixels).astype(float), [2, 98], axis=0)
    assert np.allclose([net.low.numpy(), net.high.numpy()], want, rtol=1e-6)


def test_the_same_values_in_another_depth_give_the_same_weights(five: Path, tmp_path: Path) -> None:
    runs = [trained(five / kind, tmp_path / kind, "data.value_range=[500,9000]") for kind in ("uint16", "float32")]
    first, second = (torch.load(run.last_checkpoint, weights_only=True)["state_dict"] for run in runs)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert first["net.low"].tolist() == [500] * 5 and first["net.high"].tolist() == [9000] * 5
    assert runs[0].folder.name != runs[1].folder.name  # other content


def test_a_run_of_other_bands_is_no_second_opinion(five: Path, seglab) -> None:
    (run,) = runs_of(five / "out" / "default")
    ended = seglab(
        "audit", "data=raster", f"data.root={five / 'uint16'}", "data.reader.outside=background", "--run", run.folder
    )
    assert ended.code == 1
    assert "its data.bands are [1, 2, 3, 4, 5], those of the data [1, 2, 3]" in ended.err
