"""From scenes to a map in a GIS: the commands of the README, with a small network and few epochs."""

import re
import shlex
from functools import partial
from pathlib import Path

import pyogrio
import pytest
import rasterio

from seglab.data import example as drawing
from seglab.run.folder import runs_of
from tests.conftest import ROOT, SMALL_NET, run_train


def commands() -> list[list[str]]:
    """The words of the commands of the README's section."""
    text = (ROOT / "README.md").read_text().partition("## From scenes to a map")[2]
    (block,) = re.findall(r"```bash\n(.*?)```", text.partition("\n## ")[0], re.S)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def test_five_commands_lead_from_scenes_to_polygons(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seglab
) -> None:
    example, crop, train, evaluate, predict = commands()
    assert [line[1] for line in (example, crop, evaluate, predict)] == ["example", "crop", "evaluate", "predict"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawing, "write_example", partial(drawing.write_example, scenes=3, side=512))
    monkeypatch.setenv("SEGLAB_CACHE", str(images.parent / "cache"))
    for line in (example, crop):
        assert seglab(*line[1:]).code == 0, line
    assert train[:2] == ["python", "train.py"]
    quick = ("epochs=1", "data.batch_size=8", "pictures=1", "precision=32", *SMALL_NET)
    assert run_train(images, tmp_path / "outputs", (*train[2:], *quick)) == ""
    (run,) = runs_of(tmp_path / "outputs" / "example")
    for line, said in ((evaluate, "all classes"), (predict, "maps/new.tif\n")):
        ended = seglab(*(word.replace("outputs/example/RUN", str(run.folder)) for word in line[1:]))
        assert ended.code == 0 and said in ended.out, ended
    with rasterio.open("maps/new.tif") as made, rasterio.open("example/new.tif") as image:
        assert (made.crs, made.transform, made.shape, made.nodata) == (image.crs, image.transform, image.shape, 255)
        assert ((made.read(1) == 255) == (image.dataset_mask() == 0)).all()
    found = pyogrio.read_info("maps/new.gpkg")
    assert found["features"] > 0 and found["crs"] == "EPSG:32640" and "area_m2" in found["fields"]
