"""The Python interface: `import seglab` is fast, a loaded run maps as `seglab predict`, and a study is plain rows."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

import seglab as package
from seglab.labels import VOID
from seglab.maps.scoring import probabilities
from seglab.predict.predict import load_network
from seglab.run.folder import Run, runs_of
from tests.conftest import ROOT


@pytest.fixture
def run(trained) -> Run:
    (run,) = runs_of(trained("epochs=1"))
    return run


def loaded_by(code: str) -> set[str]:
    """The libraries that are loaded after some code ran in a process of its own."""
    shown = f"import sys\n{code}\nprint(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", shown], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {name.partition(".")[0] for name in ended.stdout.split()}


def test_importing_waits_for_no_library() -> None:
    heavy = {"torch", "hydra", "numpy", "pydantic", "yaml", "PIL", "cv2"}
    loaded = loaded_by("import seglab; seglab.__version__; dir(seglab)")
    assert "seglab" in loaded and not loaded & heavy


def test_a_study_is_read_without_torch(run: Run) -> None:
    loaded = loaded_by(f"import seglab; assert seglab.read_study({str(run.folder.parent)!r})")
    assert "numpy" in loaded and not loaded & {"torch", "hydra", "pandas", "pytorch_lightning"}


def test_rows_of_a_study_are_those_of_its_table(seglab, copied) -> None:
    folder = copied("epochs=1")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "config.yaml").write_text("no: [config")
    rows = package.read_study(str(folder))
    assert seglab("grid", folder).code == 0
    with (folder / "grid.csv").open() as f:
        table = list(csv.DictReader(f))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == table
    done, unreadable = rows
    assert (done["loss"], done["epochs"], done["seed"], done["status"]) == ("cross_entropy", 1, 0, "done")
    assert done["miou"] == Run(folder / done["folder"]).results()["val"]["miou"] and 0 <= done["iou.building"] <= 1
    assert unreadable["status"] == "unreadable" and unreadable["folder"] == "broken" and unreadable["miou"] is None
    with pytest.raises(FileNotFoundError, match="no run folder in it"):
        package.read_study(folder / done["folder"] / "pictures")


def test_a_loaded_run_maps_as_the_command(seglab, run: Run, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 51, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "scene.png")
    assert seglab("predict", run.folder, tmp_path / "scene.png", "--out", tmp_path / "maps").code == 0
    with Image.open(tmp_path / "maps" / "scene.png") as picture:
        expected = np.asarray(picture)
    model = package.load(run.folder)
    for given in (image, tmp_path / "scene.png", str(tmp_path / "scene.png")):
        found = model.predict(given)
        assert found.dtype == np.uint8 and (found == expected).all()
    found = model.probabilities(image)
    assert found.dtype == np.float32 and found.shape == (4, 37, 51)
    np.testing.assert_allclose(found, probabilities(load_network(run), image), atol=1e-6)
    assert list(model.classes) == ["background", "building", "vegetation", "water"] and model.bands is None
    assert run.folder.name in repr(model)


def test_pixels_without_a_value_are_void(run: Run, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1, 256, (3, 20, 30)).astype(np.uint8)
    image[:, :5] = 0
    place = rasterio.Affine(0.3, 0, 500_000, 0, -0.3, 4_000_000)
    profile = {"driver": "GTiff", "width": 30, "height": 20, "count": 3, "dtype": "uint8", "photometric": "rgb"}
    with rasterio.open(tmp_path / "s.tif", "w", **profile, nodata=0, crs="EPSG:32640", transform=place) as scene:
        scene.write(image)
    model = package.load(run.folder)
    empty = np.zeros((20, 30), bool)
    empty[:5] = True
    assert ((model.predict(tmp_path / "s.tif") == VOID) == empty).all()
    assert (np.isnan(model.probabilities(tmp_path / "s.tif")) == empty).all()


def test_a_run_on_resized_images_maps_at_their_scale(seglab, copied, images: Path, tmp_path: Path) -> None:
    (run,) = runs_of(copied("epochs=1", "data.size=16"))
    picture = images / "data" / "3.png"
    assert seglab("predict", run.folder, picture, "--out", tmp_path / "maps").code == 0
    with Image.open(tmp_path / "maps" / "3.png") as expected:
        assert (package.load(run.folder).predict(picture) == np.asarray(expected)).all()


def test_wrong_input_is_one_line(run: Run, tmp_path: Path) -> None:
    model = package.load(run.folder, "best")
    for array in (np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8)):
        with pytest.raises(ValueError, match=r"accepted is uint8 \[height, width, 3\]$"):
            model.predict(array)
    with pytest.raises(ValueError, match="not a readable image"):
        model.predict(ROOT / "train.py")
    with pytest.raises(ValueError, match="checkpoint='first': accepted are last, best"):
        package.load(run.folder, "first")
    with pytest.raises(FileNotFoundError, match="accepted is a run folder"):
        package.load(tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        package.train  # noqa: B018


def test_the_version_is_that_of_the_package(seglab) -> None:
    ended = seglab("--version")
    assert ended.code == 0 and ended.out == f"seglab {package.__version__}\n" and package.__version__[0].isdigit()
    assert {"__version__", "load", "read_study"} <= set(dir(package))
