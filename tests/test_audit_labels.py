"""A network's doubts find swapped, shifted and partly wrong labels, one image in memory at a time."""

import csv
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from seglab import cli
from seglab.audit import second_opinion as module
from seglab.audit.agreement import confusion
from seglab.audit.audit import audit
from seglab.audit.gallery import outline, region_words
from seglab.audit.label_issues import Region, best_shift, issue, label_issues, softmin, sure_mistakes
from seglab.audit.output import write_audit
from seglab.data.synthetic import draw_scene
from seglab.maps.scoring import predict, probabilities
from seglab.predict.predict import load_network
from seglab.run.folder import runs_of
from tests.test_audit import save

SIZE = 64


def probability(truth: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Probabilities of a good but unsure network for a true map: right on all but its noise."""
    logits = 3 * np.eye(4, dtype=np.float32)[truth].transpose(2, 0, 1)
    logits += np.random.default_rng(seed).normal(0, noise, logits.shape).astype(np.float32)
    return torch.from_numpy(logits).softmax(0).numpy()


def test_softmin_by_hand() -> None:
    values = np.array([0.0, 1.0], np.float32)
    assert softmin(values, 0.1) == pytest.approx(np.exp(-10) / (1 + np.exp(-10)))
    assert softmin(values, 1e6) == pytest.approx(0.5, abs=1e-5)
    assert softmin(np.full(7, 0.25, np.float32)) == pytest.approx(0.25)
    assert np.isnan(softmin(np.zeros(0, np.float32)))


def test_void_says_nothing() -> None:
    truth = np.random.default_rng(0).integers(0, 4, (30, 30)).astype(np.uint8)
    wrong = (truth + 1) % 4
    half = np.where(np.arange(30)[:, None] < 15, 255, truth).astype(np.uint8)
    p = probability(np.where(half == 255, wrong, truth))
    assert issue(0, half, p).score == pytest.approx(float(p.max())) and issue(0, half, p).disagreeing == 0
    empty = issue(0, np.full_like(truth, 255), p)
    assert np.isnan(empty.score) and np.isnan(empty.disagreeing) and empty.regions == ()


def test_regions_are_the_sure_mistakes() -> None:
    truth = np.zeros((50, 60), np.uint8)
    truth[5:15, 10:30], truth[40:43, 50:52] = 1, 2
    mask = np.zeros_like(truth)
    found = issue(0, mask, probability(truth))
    assert found.regions == (Region(10, 5, 20, 10, 200, 0, 1), Region(50, 40, 2, 3, 6, 0, 2))
    assert (sure_mistakes(mask, probability(truth)) == (truth > 0)).all()
    unsure = np.full((4, 50, 60), 0.25, np.float32)
    assert issue(0, mask, unsure).regions == () and not sure_mistakes(mask, unsure).any()
    words = region_words(found, ["land", "house", "tree", "water"], mask.size)
    assert words == ["land labelled, house seen on 6.7%", "land labelled, tree seen on 0.2%"]
    drawn = outline(np.full((50, 60, 3), 90, np.uint8), truth > 0, 120)
    assert drawn.shape == (100, 120, 3)
    assert (drawn[20, 40] == 90).all() and drawn[9:13, 40].tolist() != [[90] * 3] * 4  # inside untouched, edge drawn


@pytest.mark.parametrize("shift", [(5, -4), (-9, 0), (0, 7)])
def test_a_shift_against_trying_all(shift: tuple[int, int]) -> None:
    _, truth = draw_scene(2, 0, 80, 90)
    moved = np.full_like(truth, 255)
    x, y = shift
    moved[max(0, -y) : 80 - max(0, y), max(0, -x) : 90 - max(0, x)] = truth[max(0, y) :, max(0, x) :][
        : 80 - abs(y), : 90 - abs(x)
    ]
    assert best_shift(moved, truth, 4)[0] == shift
    gain = best_shift(moved, truth, 4)[1]
    cm = confusion(moved, truth, 4)
    assert gain == pytest.approx(1 - np.trace(cm) / cm.sum())
    assert best_shift(truth, truth, 4) == ((0, 0), 0.0)


def test_swapped_labels_are_in_the_top_ranks_and_shifted_ones_are_told_apart() -> None:
    scenes = [draw_scene(4, k, SIZE, SIZE)[1] for k in range(40)]
    labels = [scene.copy() for scene in scenes]
    swapped, shifted = range(0, 10), range(10, 16)
    for a, b in zip(swapped[::2], swapped[1::2], strict=True):
        labels[a], labels[b] = scenes[b], scenes[a]
    for k in shifted:
        labels[k] = np.pad(scenes[k], ((4, 0), (3, 0)), mode="edge")[:SIZE, :SIZE]
    samples = ((k, np.full((SIZE, SIZE, 3), k, np.uint8), label) for k, label in enumerate(labels))
    found = list(label_issues(samples, lambda image: probability(scenes[image[0, 0, 0]], 1.0, int(image[0, 0, 0]))))
    ranked = sorted(found, key=lambda i: i.score)
    top = {i.index for i in ranked[: len(swapped) + len(shifted)]}
    assert len(top & set(swapped)) >= 0.95 * len(swapped)
    assert {i.index for i in found if i.gain} == set(shifted)
    assert {i.shift for i in found if i.gain} == {(-3, -4)}


def test_memory_does_not_grow_with_the_images() -> None:
    alive: list[weakref.ref] = []

    def samples(count: int):
        for k in range(count):
            yield k, np.zeros((SIZE, SIZE, 3), np.uint8), np.full((SIZE, SIZE), k % 4, np.uint8)

    def network(image: np.ndarray) -> np.ndarray:
        out = probability(np.zeros((SIZE, SIZE), int))
        alive.append(weakref.ref(out))
        assert sum(ref() is not None for ref in alive) <= 2
        return out

    peaks = []
    for count in (10, 100):
        tracemalloc.start()
        assert len(list(label_issues(samples(count), network))) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 90 < SIZE * SIZE / 2  # of each image stays less than half a byte a pixel


def test_a_run_ranks_labels_and_says_what_it_has_seen(train, images: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert train("epochs=1")[0] == ""
    (run,) = runs_of(tmp_path / "default")
    out = tmp_path / "audit"
    with pytest.raises(SystemExit) as end:
        cli.main(["audit", f"data.root={images}", "--run", str(run.folder), "--out", str(out)])
    assert end.value.code == 0
    rows = list(csv.DictReader((out / "label_issues.csv").read_text().splitlines()))
    scores = [float(row["score"]) for row in rows]
    assert len(rows) == 10 and scores == sorted(scores)
    assert {row["split"] for row in rows if row["trained_on"] == "1"} == {"train"}
    assert {row["split"] for row in rows if row["trained_on"] == "0"} == {"val"}
    page = (out / "audit.html").read_text()
    assert "The run was trained on 8 of these images" in page and page.count(">seen in training</span>") == 8
    cli_again = ["audit", f"data.root={images}", "--out", str(out)]
    with pytest.raises(SystemExit):
        cli.main(cli_again)
    assert not (out / "label_issues.csv").exists()
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main([*cli_again, "--run", str(run.folder), '+data.classes.road="#ffffff"'])
    assert end.value.code == cli.FAILED
    assert "its classes are background, building, vegetation, water, those of the data" in capsys.readouterr().err


def test_probabilities_are_those_of_the_map(train, images: Path, tmp_path: Path) -> None:
    assert train("epochs=1")[0] == ""
    (run,) = runs_of(tmp_path / "default")
    net = load_network(run)
    image = np.random.default_rng(0).integers(0, 256, (37, 51, 3)).astype(np.uint8)
    p = probabilities(net, image)
    assert p.shape == (4, 37, 51) and np.allclose(p.sum(0), 1, atol=1e-5)
    assert (p.argmax(0) == predict(net, image)).all()


def test_images_are_asked_at_the_runs_own_size(train, tmp_path: Path, monkeypatch) -> None:
    for i in range(4):
        save(tmp_path / "set", str(i), *draw_scene(0, i, 48, 48))
    assert train(f"data.root={tmp_path / 'set'}", "data.size=32", "epochs=1")[0] == ""
    (run,) = runs_of(tmp_path / "default")
    sizes = []
    monkeypatch.setattr(
        module, "probabilities", lambda net, image: sizes.append(image.shape) or probabilities(net, image)
    )
    found = audit([f"data.root={tmp_path / 'set'}"], run.folder)
    assert sizes == [(32, 32, 3)] * 4
    assert "Doubtful labels" in write_audit(found, tmp_path / "out").read_text()
