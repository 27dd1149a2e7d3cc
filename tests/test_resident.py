"""Images that lie on the device: the same batches and weights, bit for bit, as from the memory map; and what fits."""

from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from seglab.data.augment.patch import Patch
from seglab.data.batches import supply
from seglab.data.batches.resident import SHARE, Resident, room, size
from seglab.data.batches.samples import Source
from seglab.data.batches.supply import Supply, copied
from seglab.data.batches.windows import DrawnWindows
from seglab.data.kept.cache import PixelCache
from seglab.data.kept.image_set import ImageSet, InMemory
from seglab.data.kept.source import SourceImages
from seglab.labels import VOID
from tests.conftest import write_pair
from tests.test_data import make
from tests.test_draws import DEFAULT, KINDS
from tests.test_train import equal, only_run, weights

CUDA = torch.device("cuda:0")
COLOUR = [*DEFAULT, A.RandomBrightnessContrast(p=0.5)]
SIZED = {"augment": DEFAULT, "size": 16}


def lies_there(loader: Any) -> bool:
    return isinstance(getattr(loader.collate_fn, "__self__", None), Resident)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    kinds = [
        (a[k].dtype, a[k].shape, a[k].stride()) == (b[k].dtype, b[k].shape, b[k].stride()) for k in ("image", "mask")
    ]
    return a.keys() == b.keys() and all(kinds) and a["name"] == b["name"] and equal(tensors(a), tensors(b))


def tensors(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {k: batch[k] for k in ("image", "mask")}


CASES: list[dict[str, Any]] = [
    {},
    {**SIZED, "score_train": True},
    {"augment": DEFAULT, "crop": 12},
    {"augment": DEFAULT, "crop": [30, 22], "score_train": True},
    {"augment": DEFAULT, "crop": [9, 22], "windows": 17},
    {"augment": [A.D4()], "crop": 8, "windows": 17, "balance": "classes", "score_train": True},
]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_samples_are_what_albumentations_makes_of_their_pixels(root: Path, settings: dict) -> None:
    """As a function of (seed, epoch, image), or of (seed, epoch, position) where windows are drawn."""
    if "crop" in settings:
        write_pair(root, "1", (27, 33))
    data = make(root, seed=4, **settings)
    data.setup()
    for position, epoch in [(i, epoch) for i in range(len(data.samples)) for epoch in (0, 5)]:
        if isinstance(data.samples, DrawnWindows):
            window, number = data.samples.window(epoch, position), position
            image, mask = (pixels[window.part] for pixels in data.cache.whole[window.scene])
        else:
            number = data.indices[0][position]
            image, mask = data.cache[number]
        wanted = data.augmentation(image, mask, 4, epoch, number)
        sample = data.samples[position, epoch]
        assert all(np.array_equal(sample[k].numpy(), w) for k, w in zip(("image", "mask"), wanted, strict=True))


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_batches_are_those_of_the_memory_map(root: Path, monkeypatch: pytest.MonkeyPatch, settings: dict) -> None:
    if "crop" in settings:
        write_pair(root, "1", (27, 33))  # one of another size, at whose borders windows are cut
    for rank, world in (0, 1), (1, 2):
        mapped, held = make(root, **settings), make(root, **settings)
        for data, bytes_ in (mapped, 0), (held, 2**30):
            monkeypatch.setattr(supply, "room", lambda *_, n=bytes_: n)
            data.setup()
            data.trainer = SimpleNamespace(global_rank=rank, world_size=world)  # type: ignore[assignment]
            data.resume_at(3, 1)
            loaders = [data.train_dataloader(), *data.val_dataloader()]
            assert all(lies_there(loader) == (data is held) for loader in loaders)
            batches = []
            for epoch in (3, 4):
                loaders[0].sampler.set_epoch(epoch)  # type: ignore[attr-defined]
                batches.append(list(loaders[0]))
            assert len(batches[0]) == len(batches[1]) - 1, "resumed after the first batch"
            data.__dict__["seen"] = list(chain(*batches, *loaders[1:]))
        assert all(map(same, mapped.__dict__["seen"], held.__dict__["seen"]))
        assert len(mapped.__dict__["seen"]) == len(held.__dict__["seen"])


class Whole:
    """Two images of one kind of values, as a cache holds them: read-only."""

    def __init__(self, kind: str, bands: int):
        rng = np.random.default_rng(0)
        self.sizes, self.bands, self.dtype = [(6, 9), (11, 4)], bands, np.dtype(kind)
        self.images = [rng.integers(0, 2**15 if kind != "u1" else 2**8, (*s, bands)).astype(kind) for s in self.sizes]
        self.masks = [rng.integers(0, 4, s).astype(np.uint8) for s in self.sizes]
        for array in (*self.images, *self.masks):
            array.setflags(write=False)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        return self.images[i], self.masks[i]


@pytest.mark.parametrize(("kind", "bands"), [*KINDS, ("f8", 2), ("i1", 3), ("u4", 1)])
def test_values_of_any_type_are_moved_as_they_are(kind: str, bands: int) -> None:
    whole: Any = Whole(kind, bands)
    resident = Resident(whole, [0, 1], torch.device("cpu"))
    turned = [Patch.of(1, 2, 5, 4).padded(2, 0, 1, 3), Patch.of(3, 0, 7, 4).turned((1, 3, 0, 2)).padded(4, 0, 0, 0)]
    sources = [Source(i, patch, "ab"[i], i) for i, patch in enumerate(turned)]
    assert {patch.shape for patch in turned} == {(8, 7)}
    batch = resident.batch(sources)
    assert batch["name"] == ["a", "b"]
    for i, patch in enumerate(turned):
        for key, pixels, fill in (("image", whole[i][0], 0), ("mask", whole[i][1], VOID)):
            assert batch[key][i].numpy().tobytes() == patch.of_pixels(pixels, fill).tobytes()
            assert batch[key][i].numpy().dtype == pixels.dtype


def test_a_batch_on_a_gpu_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake tensors refuse to tell a value: an operation that had to wait for one would fail."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    whole: Any = Whole("u2", 4)
    with FakeTensorMode(allow_non_fake_inputs=True):
        resident = Resident(whole, [1, 0], CUDA)
        for patch in (Patch.of(0, 1, 5, 3).turned((1, 0, 3, 2)), Patch.of(0, 0, 4, 4).padded(1, 1, 1, 1)):
            batch = resident.batch([Source(i, patch, "", i) for i in (0, 1)])
            assert (batch["image"].device, batch["mask"].device) == (CUDA, CUDA)
            assert batch["image"].shape == (2, *patch.shape, 4) and batch["image"].dtype == torch.uint16


def test_what_fits_lies_there_once_and_the_rest_is_prepared_by_workers(root: Path, monkeypatch) -> None:
    data = make(root, **SIZED, score_train=True, batch_size=2)
    data.setup()
    train, val = (size(data.cache.whole, side) for side in data.indices)
    assert (train, val) == tuple(len(side) * 16 * 16 * 4 for side in data.indices) and train > val
    cases = {train - 1: [False, True, False], train: [True, False, True], train + val: [True] * 3, 0: [False] * 3}
    for free, lying in cases.items():
        monkeypatch.setattr(supply, "room", lambda _, taken, n=free: n - taken)
        data.supply = Supply(0)
        loaders = [data.train_dataloader(), *data.val_dataloader()]
        assert [lies_there(loader) for loader in loaders] == lying
        again = [data.train_dataloader(), *data.val_dataloader(), data.plain_loader(data.indices[1][:1])]
        assert [lies_there(loader) for loader in again] == [*lying, lying[1]]
        assert not lies_there(data.plain_loader([*data.indices[0], *data.indices[1]])), "of both sides"
        uploads = {id(loader.collate_fn.__self__) for loader in loaders + again if lies_there(loader)}
        assert len(uploads) == sum(lying[:2]), "each side once"
    coloured = make(root, size=16, augment=COLOUR)
    coloured.setup()
    monkeypatch.setattr(supply, "room", lambda *_: 2**30)
    assert not lies_there(coloured.train_dataloader()) and lies_there(coloured.val_dataloader()[0])


def test_images_take_a_share_of_what_is_free_on_a_gpu_and_nothing_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (8000, 9000))
    assert room(torch.device("cpu")) == room(torch.device("mps")) == 0 and not asked
    assert room(CUDA) == 8000 * SHARE and asked == [CUDA]
    assert room(CUDA, 1000) == 9000 * SHARE - 1000, "both together take the share of what was free before"


@pytest.mark.parametrize(
    ("asked", "device", "cores", "kind", "workers"),
    [
        *(("auto", "cpu", 16, PixelCache, 0), ("auto", "mps", 16, PixelCache, 0), ("auto", "cpu", 16, InMemory, 0)),
        *(("auto", "cuda", 8, PixelCache, 7), ("auto", "cuda", 64, InMemory, 16), ("auto", "cuda", 1, PixelCache, 1)),
        *(("auto", "cpu", 2, SourceImages, 1), ("auto", "cuda", 8, SourceImages, 7)),
        *((3, "cpu", 1, PixelCache, 3), (3, "cuda", 1, SourceImages, 3), (0, "cuda", 8, SourceImages, 0)),
    ],
)
def test_workers_are_as_many_as_asked_or_as_cores_allow(
    asked: Any, device: str, cores: int, kind: type[ImageSet], workers: int
) -> None:
    supply = Supply(asked)
    supply.send_to(torch.device(device), cores)
    assert supply.workers(object.__new__(kind)) == workers


@pytest.mark.parametrize("wrong", ["many", -1, 1.5, None])
def test_a_wrong_number_of_workers_says_what_is_accepted(root: Path, wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"^num_workers={wrong}: accepted is auto, or 0 or more$"):
        make(root, num_workers=wrong)


def test_a_batch_is_copied_beside_the_step_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Stream:
        def __init__(self, name: Any):
            self.name = "now" if name == "now" else "beside"

        def wait_stream(self, other: "Stream") -> None:
            done.append(f"{self.name} waits for {other.name}")

        def __enter__(self) -> None:
            done.append(f"on {self.name}")

        def __exit__(self, *_: Any) -> None:
            done.append("off")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream("now"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: done.append(f"kept for {stream.name}"))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: done.append(f"copied {where} {how}") or self)
    supply._stream_of_copies.cache_clear()
    batch = {"image": torch.ones(2), "mask": torch.zeros(2), "name": ["a", "b"]}
    there = copied(batch, CUDA)
    supply._stream_of_copies.cache_clear()
    assert there == batch
    copy = f"copied {(CUDA,)} {{'non_blocking': True}}"
    assert done == ["on beside", copy, copy, "off", "now waits for beside", "kept for now", "kept for now"]


def test_a_training_from_the_device_has_the_weights_of_one_from_the_map(train, tmp_path: Path, monkeypatch) -> None:
    gathered: list[int] = []
    batch = Resident.batch

    def counting(self: Resident, sources: Any) -> Any:
        gathered.append(len(sources))
        return batch(self, sources)

    monkeypatch.setattr(Resident, "batch", counting)
    for study, bytes_ in (("mapped", 0), ("held", 2**30)):
        monkeypatch.setattr(supply, "room", lambda *_, n=bytes_: n)
        message, said = train("epochs=2", f"study={study}", "data.crop=24", "share=false")
        assert message == "" and bool(gathered) == ("decoded images lie on cpu" in said) == (study == "held")
    mapped, held = (only_run(tmp_path / study) for study in ("mapped", "held"))
    assert mapped.folder.name == held.folder.name and sum(gathered) >= 20
    assert equal(weights(mapped), weights(held)) and mapped.metrics() == held.metrics()
