"""The `seglab` command on a real run: its table, its maps, and what it says to the wrong input."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from seglab import cli
from seglab.labels import color_image
from seglab.predict import load_network
from seglab.runs import Run, runs_of
from seglab.task import predict


@pytest.fixture
def run(train, tmp_path: Path) -> Run:
    assert train("epochs=1")[0] == ""
    (run,) = runs_of(tmp_path / "default")
    return run


@pytest.fixture
def seglab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`seglab(*arguments)` returns (exit message or code, what was printed)."""

    def call(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["seglab", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as e:
            return e.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    return call


def test_grid(seglab, run: Run) -> None:
    study = run.folder.parent
    code, printed = seglab("grid", study)
    assert code == 0 and printed == (study / "grid.md").read_text()
    assert f"| cross_entropy | {run.results()['val']['miou']:.4f}" in printed


def test_maps_of_images_of_any_size(seglab, run: Run, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 51, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "scene.tif")
    for checkpoint in ("last", "best"):
        out = tmp_path / checkpoint
        code, printed = seglab("predict", run.folder, tmp_path / "scene.tif", "--out", out, "--checkpoint", checkpoint)
        assert code == 0 and printed == f"{out / 'scene.png'}\n"
        with Image.open(out / "scene.png") as ids, Image.open(out / "scene_color.png") as colors:
            assert (np.asarray(ids) == predict(load_network(run, checkpoint), image)).all()
            assert (np.asarray(colors) == color_image(np.asarray(ids), run.config()["data"]["classes"])).all()


def test_wrong_input_is_one_line(seglab, run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for arguments, message in {
        ("grid", tmp_path / "none"): "no run folder in it; accepted is a folder such as outputs/default",
        ("predict", tmp_path, tmp_path / "text.png"): "accepted is a run folder",
        ("predict", run.folder, tmp_path / "text.png"): "text.png: not a readable image",
    }.items():
        code, _ = seglab(*arguments)
        assert str(code).startswith("seglab: ") and message in str(code) and "\n" not in str(code)
    run.last_checkpoint.write_bytes(b"broken")
    code, _ = seglab("predict", run.folder, tmp_path / "text.png")
    assert "last.ckpt: not a readable checkpoint of this run" in str(code)


def test_a_run_folder_from_elsewhere_runs_nothing(seglab, run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "i.png")

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    run.last_checkpoint.write_bytes(pickle.dumps({"state_dict": Evil()}))
    assert "not a readable checkpoint" in str(seglab("predict", run.folder, tmp_path / "i.png")[0])
    config = run.config()
    config["model"] = {"_target_": "os.system", "command": f"touch {tmp_path / 'ran'}"}
    run.config_file.write_text(yaml.safe_dump(config))
    assert "model._target_='os.system': accepted is a class or function of" in str(
        seglab("predict", run.folder, tmp_path / "i.png")[0]
    )
    assert not (tmp_path / "ran").exists()


def test_help_has_an_example_each(seglab) -> None:
    assert "example: seglab grid outputs/default" in seglab("grid", "--help")[1]
    assert "example: seglab predict outputs/default/" in seglab("predict", "--help")[1]
    assert seglab()[0] == 2
