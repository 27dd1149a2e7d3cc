"""A study of a few drawn cells, written as trainings write it, for the tests of what is made from run folders."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seglab.data.folder import FolderReader
from seglab.data.kept.cache import open_cache
from seglab.data.kept.content import content_hash
from seglab.data.kept.decoding import Decoding
from seglab.data.kept.digests import Digests
from seglab.run.folder import Run
from tests.test_conf import composed

CLASSES = {"ground": "#c8c8c8", "roof": "#d1495b", "tree": "#3e8e4f"}


@cache
def base_config() -> dict[str, Any]:
    """A whole config, of which `add_cell` replaces what makes a cell."""
    return composed("data=folder", "data.root=x", "model=unet", "loss=dice", "trainer=cpu")


def draw_labels(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Class ids `uint8 [N,H,W]` in blocks."""
    blocks = np.random.default_rng(seed).integers(0, len(CLASSES), (count, size // 4, size // 4))
    return np.kron(blocks, np.ones((4, 4), int)).astype(np.uint8)


def spoil(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Maps that are wrong on about this share of the pixels."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(labels.shape) < share
    return np.where(wrong, (labels + 1) % len(CLASSES), labels).astype(np.uint8)


def write_data(root: Path, labels: np.ndarray, scenes: Sequence[str]) -> list[str]:
    """A folder data set of these labels; the names of its images."""
    names = [f"{i:02}" for i in range(len(labels))]
    for name, label in zip(names, labels, strict=True):
        for sub, array in {"data": np.stack([60 * label] * 3, -1), "label": label}.items():
            (root / sub).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(root / sub / f"{name}.png")
    (root / "scenes.csv").write_text("name,scene\n" + "".join(f"{n},{s}\n" for n, s in zip(names, scenes, strict=True)))
    return names


def decode(root: Path, cache_dir: Path, classes: Mapping[str, str] = CLASSES) -> str:
    """Decodes a folder data set as a training does, and returns the hash of its content."""
    reader = FolderReader()
    pairs, _ = reader.pairs(root)
    content = content_hash(pairs, Digests(cache_dir))
    open_cache(cache_dir, content, pairs, Decoding(reader, classes, None))
    return content


def rows_of(epochs: int, **more: float) -> list[dict[str, float]]:
    """Metrics of a healthy training."""
    stages = {f"gradient/{stage}": 1.0 for stage in ("encoder", "bottleneck", "decoder", "head")}
    return [
        {"epoch": e, "train/loss": 1 / e, "val/loss": 1.2 / e, "val/miou": 0.5 - 0.3 / e, "learning_rate": 0.001}
        | {f"val/iou/{c}": 0.4 for c in CLASSES} | stages | {"batch_norm_gap": 0.1} | more
        for e in range(1, epochs + 1)
    ]  # fmt: skip


def add_cell(
    study: Path,
    loss: str,
    epochs: int,
    labels: np.ndarray,
    maps: np.ndarray | None,
    seed: int = 0,
    scenes: Sequence[str] | None = None,
    rows: list[dict[str, float]] | None = None,
    results: Mapping[str, Any] | None = None,
    classes: Mapping[str, str] = CLASSES,
    root: Path = Path("nowhere"),
    names: Sequence[str] | None = None,
    content: str = "",
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """A run folder; finished if it has maps, or else with `results` as its results.json; `content`: of its data.

    `changes`: settings of its parts by dotted key, as `model.batch_norm`.
    """
    names = list(names or [f"{i:02}" for i in range(len(labels))])
    chosen = {"model": "unet", "loss": loss, "data": "folder", "trainer": "cpu"}
    run = Run(study / f"unet-{len(list(study.glob('*')))}-e{epochs}-s{seed}")
    run.folder.mkdir(parents=True)
    config = {**base_config(), "epochs": epochs, "seed": seed, "names": chosen, "pictures": 2}
    config["data"] = {**config["data"], "root": str(root), "classes": dict(classes)}
    for key, value in (changes or {}).items():
        part, name = key.split(".", 1)
        config[part] = {**config[part], name: value}
    run.start(config, {"python": "3", "device": "cpu"} | ({"data": content} if content else {}))
    run.write_command(f"python train.py -m loss={loss}")
    for row in rows_of(epochs) if rows is None else rows:
        run.add_epoch(row, {"epoch": row["epoch"], "seconds": 1.0, "images": 8})
    if maps is not None:
        results = _keep(run, labels, maps, list(scenes or [""] * len(labels)), names, classes)
    if results is not None:
        run.write_results(results)
    return run


def add_test_scores(run: Run, miou: float, **more: object) -> None:
    """Scores of the test split of a run, as `seglab evaluate` leaves them."""
    content = {"split": "test", "checkpoint": "last", "identity": "", "weights": "w", "data": "", "device": "cpu"}
    content |= {"scored": "2026-01-01", "looks": 1, "tile": None, "images": 2, "scenes": 1, "pixels": 128}
    content |= {"scores": {"miou": miou, "iou": {"ground": miou, "roof": None}}}
    content |= {"boundary_f": {"boundary_f_1px": {"mean": 0.25, "classes": {"ground": 0.25, "roof": None}}}}
    run.evaluations.write(run.evaluations.file("test"), content | more, {})


def _keep(run: Run, labels, maps, scenes: list[str], names: list[str], classes: Mapping[str, str]) -> dict[str, Any]:
    k = len(classes)
    counts = [
        np.bincount((a * k + b).ravel(), minlength=k * k).reshape(k, k) for a, b in zip(labels, maps, strict=True)
    ]
    for name, prediction in zip(names, maps, strict=True):
        run.records.write_map(name, prediction)
    rows = [(n, s, c.ravel().tolist()) for n, s, c in zip(names, scenes, counts, strict=True)]
    run.records.write_validation(list(classes), rows)
    bins = np.zeros((20, 3))
    bins[15] = [labels.size, (labels == maps).sum(), 0.775 * labels.size]
    run.records.write_calibration(bins)
    total = np.sum(counts, 0)
    iou = {c: float(total[i, i] / (total[i].sum() + total[:, i].sum() - total[i, i])) for i, c in enumerate(classes)}
    val = {"miou": float(np.mean(list(iou.values()))), "iou": iou, "dice": 0.5, "accuracy": 0.5}
    return {"status": "done", "val": val, "majority_miou": 0.2}
