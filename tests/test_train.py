"""Real, tiny trainings through train.py: the run folder, determinism, failures, and the grid."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seglab.run.folder import Run, runs_of
from tests.commands import start

ROOT = Path(__file__).parent.parent


def only_run(study: Path) -> Run:
    (run,) = runs_of(study)
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.last_checkpoint, weights_only=True)["state_dict"]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def done(copied) -> Run:
    return only_run(copied("epochs=2", "score_train=true"))


def test_a_run_folder_says_everything(done: Run) -> None:
    assert sorted(p.name for p in done.folder.iterdir() if p.name[0] != "." and "tfevents" not in p.name) == [
        *("calibration.csv", "checkpoints", "command.txt", "config.yaml", "counts.csv", "environment.json", "maps"),
        *("metrics.csv", "pictures", "results.json", "times.csv", "train.log", "validation.csv"),
    ]
    assert done.best_checkpoint.exists() and done.last_checkpoint.exists()
    results = done.results()
    assert results is not None and results["status"] == "done"
    assert done.folder.name == f"unet-cross_entropy-e2-s0-{results['identity'][:8]}"
    assert {"model", "loss", "epochs", "seed", "val", "train_seconds", "images_per_second"} <= results.keys()
    assert list(results["val"]["iou"]) == ["background", "building", "vegetation", "water"]
    assert results["environment"] == json.loads(done.environment_file.read_text())
    assert {"torch", "numpy"} <= results["environment"]["versions"].keys()
    rows = done.metrics()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[-1]["val/miou"] == pytest.approx(results["val"]["miou"])
    assert rows[-1]["train_scored/miou"] > 0
    assert done.config()["names"] == {"model": "unet", "loss": "cross_entropy", "data": "folder", "trainer": "auto"}
    assert "epoch 2/2" in done.log_file.read_text()


def assert_score_is_that_of_the_maps(run: Run, images: Path) -> None:
    """The reported mIoU, again from the checkpoint, through the public way to a map, with a slow count."""
    from seglab.maps.scoring import predict
    from seglab.predict.predict import load_network
    from tests.test_metrics import counted_iou

    net, validated = load_network(run), validation_names(images)
    maps = [predict(net, np.asarray(Image.open(images / "data" / f"{n}.png"))) for n in validated]
    masks = [np.asarray(Image.open(images / "label" / f"{n}.png")) for n in validated]
    want = np.nanmean([counted_iou(np.stack(maps), np.stack(masks), k) for k in range(4)])
    assert run.results()["val"]["miou"] == pytest.approx(want)


def test_the_score_is_that_of_the_maps(done: Run, images: Path) -> None:
    assert_score_is_that_of_the_maps(done, images)


def validation_names(images: Path) -> list[str]:
    from tests.test_data import make

    data = make(images)
    return [data.pairs[i].name for i in data.indices[1]]


def test_batch_norms_count_the_steps_of_all_epochs(done: Run) -> None:
    """They are counted together, those that train: a validation in between takes them out, and puts them back."""
    content = torch.load(done.last_checkpoint, weights_only=True)
    counters = {int(v) for k, v in content["state_dict"].items() if k.endswith("num_batches_tracked")}
    assert counters == {content["global_step"]} and content["global_step"] > len(done.metrics())


def test_tensorboard_shows_curves_pictures_and_the_final_scores(done: Run) -> None:
    events = EventAccumulator(str(done.folder)).Reload()
    tags = events.Tags()
    assert {"loss/train", "loss/val", "miou/val", "iou/building/val", "learning_rate", "final/miou"} <= set(
        tags["scalars"]
    )
    assert [e.step for e in events.Scalars("miou/val")] == [1, 2]
    assert [e.step for e in events.Scalars("final/miou")] == [2]
    assert events.Scalars("final/miou")[0].value == pytest.approx(done.results()["val"]["miou"], abs=1e-6)
    assert tags["images"] == ["final/8"]


def test_pictures_are_panels_of_the_fixed_samples(done: Run) -> None:
    (picture,) = done.pictures.iterdir()
    with Image.open(picture) as panel:
        assert panel.size[0] > 4 * 224


def test_same_command_same_weights_whatever_the_workers(train, tmp_path: Path) -> None:
    for seed, (study, workers) in enumerate((("a", 0), ("b", "auto"), ("c", 2))):
        torch.manual_seed(seed)  # what ran before must not matter
        assert train("epochs=2", f"study={study}", "share=false", f"data.num_workers={workers}")[0] == ""
    a, b, c = (only_run(tmp_path / s) for s in "abc")
    assert a.folder.name == b.folder.name == c.folder.name
    assert equal(weights(a), weights(b)) and equal(weights(a), weights(c))
    assert [r["val/loss"] for r in a.metrics()] == [r["val/loss"] for r in c.metrics()]
    train("epochs=2", "study=d", "seed=1")
    assert not equal(weights(a), weights(only_run(tmp_path / "d")))


def test_a_finished_run_is_not_trained_again(train, done: Run) -> None:
    before = done.last_checkpoint.stat().st_mtime_ns
    message, said = train("epochs=2", "score_train=true")
    assert message == "" and "is done" in said
    assert done.last_checkpoint.stat().st_mtime_ns == before


def test_a_grid_is_shown_and_written(train, tmp_path: Path) -> None:
    message, said = train("-m", "loss=dice,cross_entropy", "epochs=1,2")
    assert message == ""
    assert "| loss          | 1 epochs | 2 epochs |" in said
    rows = list(csv.DictReader((tmp_path / "default" / "grid.csv").read_text().splitlines()))
    assert [(r["loss"], r["epochs"], r["status"]) for r in rows] == [
        ("cross_entropy", "1", "done"), ("cross_entropy", "2", "done"), ("dice", "1", "done"), ("dice", "2", "done"),
    ]  # fmt: skip
    scores = {f.results()["val"]["miou"] for f in runs_of(tmp_path / "default")}
    assert {float(r["miou"]) for r in rows} == scores
    assert (tmp_path / "default" / "grid.md").read_text() in said


def test_a_cell_that_fails_is_named_and_stops_no_other(train, tmp_path: Path) -> None:
    message, said = train("-m", "loss=focal", "loss.alpha=[1.0,1.0],[1.0,1.0,1.0,1.0]", "epochs=1")
    assert "1 of 2 cells have no score" in message
    assert "failed: focal, loss.alpha=[1.0, 1.0], 1 epochs, seed 0 (" in said
    runs = {run.results()["status"]: run for run in runs_of(tmp_path / "default")}
    assert sorted(runs) == ["done", "failed"]
    assert "Traceback" in runs["failed"].log_file.read_text()


def test_wrong_data_ends_a_sweep_before_anything_trains(train, tmp_path: Path) -> None:
    message, said = train("-m", "data.root=/nowhere", "loss=dice,focal")
    assert message.startswith("train.py: the data in /nowhere can't be used, 1 problem:")
    assert "epoch" not in said and not list(runs_of(tmp_path / "default"))


def test_a_loss_that_is_not_finite_names_the_images(train, tmp_path: Path) -> None:
    message, _ = train("optimizer.lr=1e30", "epochs=3", "data.batch_size=2")
    assert message.startswith("diverged: NotFinite: the ") and "on the images" in message
    assert only_run(tmp_path / "default").results()["status"] == "diverged"


def test_no_gpu_is_one_line(train, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for how in (), ("-m", "loss=dice,focal"):
        message, _ = train(*how, "trainer=gpu", "epochs=1")
        assert message == "train.py: trainer.accelerator=gpu: torch sees no GPU here; accepted are auto and cpu"
    assert not list(tmp_path.glob("*/*/config.yaml"))


def test_bf16_by_name_is_the_same_path(train, tmp_path: Path) -> None:
    assert train("precision=bf16-mixed", "epochs=1")[0] == ""
    assert only_run(tmp_path / "default").results()["status"] == "done"


def test_freezing_and_the_default_model(train, tmp_path: Path) -> None:
    assert train("model=deeplabv3plus", "model.freeze_encoder_epochs=1", "epochs=1", "seed=3")[0] == ""
    frozen = weights(only_run(tmp_path / "default"))
    from seglab.config.parts import build_model

    start = build_model(only_run(tmp_path / "default").config()).state_dict()
    encoder = [k for k in start if ".encoder." in k]
    assert encoder and all(torch.equal(start[k], frozen[f"net.{k}"]) for k in encoder)
    assert not equal({f"net.{k}": v for k, v in start.items()}, frozen)


def test_the_command_as_a_user_types_it(images: Path, tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "data=folder", f"data.root={images}", "model=unet", "model.min_kernel_num=4"]
    command += ["epochs=1", f"output_dir={tmp_path / 'out'}"]
    environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"} | {"SEGLAB_CACHE": str(tmp_path)}
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "epoch 1/1" in said.stdout and "Warning" not in said.stdout + said.stderr
    code, _, wrong = start(images, tmp_path, "epochs=0").finished()
    assert code == 1 and wrong.count("\n") == 1
