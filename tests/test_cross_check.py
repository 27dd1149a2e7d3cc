"""Cross-checks: training with smp's losses against a plain loop, and mIoU against the original's and torchmetrics."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from test_docs import block
from test_losses_golden import CASES, Golden, as_logits
from test_losses_golden import original as original  # the fixture
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from seglab import losses
from seglab.config.compose import composed
from seglab.config.parts import build_data, build_model
from seglab.config.schema import Config
from seglab.labels import VOID, one_hot
from seglab.maps.scoring import Scoring
from seglab.models.unet import UNet
from seglab.run.folder import runs_of
from seglab.training.fit import fit, trainer_of
from tests.conftest import SMALL

MULTICLASS = {"mode": "multiclass", "ignore_index": VOID}
SMP: dict[str, dict[str, Any]] = {
    "DiceLoss": MULTICLASS,
    "JaccardLoss": MULTICLASS | {"smooth": 1.0},
    "TverskyLoss": MULTICLASS | {"alpha": 0.3, "beta": 0.7, "gamma": 0.75},
    "FocalLoss": MULTICLASS | {"alpha": 0.25, "gamma": 2.0},
    "LovaszLoss": MULTICLASS | {"per_image": True},
    "SoftCrossEntropyLoss": {"smooth_factor": 0.1, "ignore_index": VOID},
}
SAME_FORMULA: dict[str, tuple[nn.Module, nn.Module]] = {
    "Dice": (losses.Dice(), smp.losses.DiceLoss(**MULTICLASS)),
    "Jaccard": (losses.Jaccard(), smp.losses.JaccardLoss(**MULTICLASS)),
    "Tversky": (losses.Tversky(0.3, 0.7), smp.losses.TverskyLoss(**MULTICLASS, alpha=0.3, beta=0.7)),
    "focal": (losses.FocalSigmoid(2.0, 0.25), smp.losses.FocalLoss(**MULTICLASS, alpha=0.25, gamma=2.0)),
    "Lovász": (losses.Lovasz(), smp.losses.LovaszLoss(**MULTICLASS)),
}
Batch = tuple[Tensor, Tensor]
"""Images `float [B,C,H,W]` and index maps `uint8 [B,H,W]`."""


class Record(pl.Callback):
    """The batches of a training, and the loss of each step."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.batches.append((batch["image"].clone(), batch["mask"].clone()))
        self.losses.append(outputs["loss"].item())


def plain_loop(net: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batches: Iterable[Batch]) -> list[float]:
    """The loss of each step of a training without Lightning and without seglab's task."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001, fused=True)
    curve = []
    for image, mask in batches:
        optimizer.zero_grad()
        value = loss(net(image), mask)
        value.backward()
        optimizer.step()
        curve.append(value.item())
    return curve


@pytest.fixture
def root(images: Path, tmp_path: Path) -> Path:
    """The small images, each with void pixels."""
    for folder in ("data", "label"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    (tmp_path / "root" / "scenes.csv").write_text((images / "scenes.csv").read_text())
    for path in (images / "label").iterdir():
        label = np.asarray(Image.open(path)).copy()
        label[4:11, 20:30] = VOID
        Image.fromarray(label).save(tmp_path / "root" / "label" / path.name)
        (tmp_path / "root" / "data" / path.name).write_bytes((images / "data" / path.name).read_bytes())
    return tmp_path / "root"


@pytest.fixture
def config(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A short training, where the adapter of docs/adding.md can be imported and is trusted."""
    (tmp_path / "mylosses.py").write_text(block("mylosses.py"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mylosses", raising=False)
    monkeypatch.setenv("SEGLAB_TRUST", "mylosses,segmentation_models_pytorch")
    monkeypatch.setenv("SEGLAB_CACHE", str(tmp_path / "cache"))
    return composed([*SMALL, f"data.root={root}", "epochs=3", "trainer=cpu"])


def trained(config: Config) -> tuple[nn.Module, Record]:
    """The network after a training by seglab, and what it was shown."""
    data = build_data(config)
    data.setup()
    record = Record()
    with trainer_of(config, [record]) as trainer:
        return fit(trainer, config, data, None).net, record


@pytest.mark.parametrize("name", SMP)
def test_a_training_with_smps_loss_is_a_plain_loop_bit_for_bit(name: str, config: Config) -> None:
    """Weights and the loss of each step; running statistics follow a rule of their own, see test_task.py."""
    peer = {"_target_": f"segmentation_models_pytorch.losses.{name}", **SMP[name]}
    net, record = trained(config.but(loss={"_target_": "mylosses.OnIndexMap", "loss": peer}))
    assert len(record.losses) == 6 and all((mask == VOID).any() for _, mask in record.batches)
    plain = build_model(config)
    before = [p.clone() for p in plain.parameters()]
    loss = getattr(smp.losses, name)(**SMP[name])
    assert plain_loop(plain, lambda logits, mask: loss(logits, mask.long()), record.batches) == record.losses
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), net.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(plain.parameters(), before, strict=True))


def test_the_pages_of_docs_train_and_log_the_same_curve(config: Config, root: Path, tmp_path: Path, train) -> None:
    """The two files of docs/adding.md, through train.py."""
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "smp_dice.yaml").write_text(block("conf/loss/smp_dice.yaml"))
    search = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    assert train("loss=smp_dice", search, "epochs=3", f"data.root={root}", "trainer=cpu")[0] == ""
    (run,) = runs_of(tmp_path / "default")
    assert run.folder.name.startswith("unet-smp_dice-e3-s0-")
    _, record = trained(Config.of(run.config()))
    sizes = [len(image) for image, _ in record.batches]
    by_epoch = zip(*(iter(zip(record.losses, sizes, strict=True)),) * 2, strict=True)
    means = [sum(value * n for value, n in epoch) / sum(n for _, n in epoch) for epoch in by_epoch]
    assert [row["train/loss"] for row in run.metrics()] == pytest.approx(means, rel=1e-6)  # summed in float32


@pytest.mark.parametrize(("ours", "theirs"), SAME_FORMULA.values(), ids=SAME_FORMULA)
def test_curves_of_ours_and_smps_losses_where_the_formula_is_one(ours: nn.Module, theirs: nn.Module) -> None:
    """Six steps apart by nothing but float32: 1e-7 in the first gradient, which Adam carries on to 1e-5 at most."""
    image = 255 * torch.rand(6, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = (image.mean(2) // 32 % 4).byte()
    mask[:, :, 4:11, 20:30] = VOID
    batches = list(zip(image, mask, strict=True))
    curve = plain_loop(small_net(), lambda logits, mask: ours(logits, one_hot(mask, 4)), batches)
    want = plain_loop(small_net(), lambda logits, mask: theirs(logits, mask.long()), batches)
    assert curve == pytest.approx(want, rel=1e-4)
    assert len(set(curve)) == 6


def small_net() -> UNet:
    torch.manual_seed(0)
    return UNet(4, min_kernel_num=4, depth=2)


def test_smps_cross_entropy_divides_by_void_pixels_too() -> None:
    logits, mask = torch.randn(1, 4, 2, 5), torch.zeros(1, 2, 5, dtype=torch.uint8)
    mask[0, 0, :3] = VOID
    ours = losses.CrossEntropy()(logits, one_hot(mask, 4))
    theirs = smp.losses.SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=VOID)(logits, mask.long())
    assert theirs.item() == pytest.approx(ours.item() * 7 / 10, rel=1e-6)


@pytest.mark.parametrize("name", SMP)
def test_without_the_adapter_no_loss_is_computed(name: str) -> None:
    target = one_hot(torch.zeros(2, 8, 8, dtype=torch.uint8), 4)
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        getattr(smp.losses, name)(**SMP[name])(torch.zeros(2, 4, 8, 8), target)


@pytest.mark.parametrize("name", SMP)
def test_a_batch_of_void_pixels_stops_what_smp_cannot_compute(name: str) -> None:
    value = getattr(smp.losses, name)(**SMP[name])(torch.zeros(2, 4, 8, 8), torch.full((2, 8, 8), VOID))
    assert value.numel() == (name != "LovaszLoss"), "no number: no gradient"
    assert value.isfinite().all() == (name != "FocalLoss")


CLASSES = list("abcd")


def scored(batches: Iterable[Batch]) -> tuple[np.ndarray, dict[str, float]]:
    """Counts and scores of batches of logits, as validation adds them up."""
    scoring = Scoring(CLASSES)
    counts = sum(scoring.score(logits, mask).counts.sum(0) for logits, mask in batches)
    return counts.numpy(), scoring.numbers(counts)


def golden_batch(original: Golden, case: str) -> Batch:
    return as_logits(original.probabilities(case)), original.target(case).argmax(1).byte()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", ["A", "B"])
def test_miou_is_the_originals(original: Golden, shape: str, case: str) -> None:
    """In each case every class is true or predicted, so that the two mean over the same classes."""
    key = f"{shape}/{case}"
    counts, numbers = scored([golden_batch(original, key)])
    assert counts.tolist() == original.arrays[f"{key}/MeanIou/cm"].tolist()
    assert numbers["miou"] == pytest.approx(original.value(key, "MeanIou"), rel=1e-7)


def test_miou_of_all_cases_is_that_of_their_summed_counts(original: Golden) -> None:
    """One metric object of the original over all cases; some of them are stored as this sum alone."""
    counts = torch.from_numpy(original.arrays["all_cases/MeanIou/cm"]).long()
    assert (counts.numpy() >= scored(golden_batch(original, f"{s}/{case}") for s in "AB" for case in CASES)[0]).all()
    numbers = Scoring(CLASSES).numbers(counts)
    assert numbers["miou"] == pytest.approx(original.value("all_cases", "MeanIou"), rel=1e-7)


@pytest.mark.parametrize("present", [4, 3, 1])
def test_miou_is_torchmetrics(present: int) -> None:
    """Three batches with void pixels. A class that is neither true nor predicted is in no mean.

    torchmetrics shows such a class as 0 if it is asked for each class, and seglab as NaN.
    """
    rng = np.random.default_rng(present)
    masks = torch.from_numpy(rng.choice([*range(present), VOID], (3, 2, 15, 11)).astype(np.uint8))
    logits = torch.from_numpy(rng.normal(size=(3, 2, 4, 15, 11)).astype(np.float32))
    logits[:, :, present:] = -9
    _, numbers = scored(zip(logits, masks, strict=True))
    peers = {how: MulticlassJaccardIndex(4, average=how, ignore_index=VOID) for how in ("macro", "none")}
    for peer in peers.values():
        for batch in zip(logits, masks, strict=True):
            peer.update(*batch)
    assert numbers["miou"] == pytest.approx(peers["macro"].compute().item(), rel=1e-6)
    each = [numbers[f"iou/{name}"] for name in CLASSES]
    assert np.nan_to_num(each) == pytest.approx(peers["none"].compute().numpy(), rel=1e-6)
    assert np.isnan(each).tolist() == [k >= present for k in range(4)]
