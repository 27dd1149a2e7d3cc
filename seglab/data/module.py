"""The one LightningDataModule: pairs from a reader, split, cached, augmented, batched, and made into tensors."""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import albumentations as A
import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from seglab.data import fitness
from seglab.data.arguments import check_numbers, height_width
from seglab.data.augment.transforms import Augmentation
from seglab.data.batches.loaders import EpochOrder, Tiles, equal_batches, scored_at_once
from seglab.data.batches.supply import Supply, copied
from seglab.data.batches.windows import DrawnWindows, WindowGrid, check_windows
from seglab.data.classes import check_classes
from seglab.data.files.listing import composed
from seglab.data.folder import FolderReader, Pair
from seglab.data.kept.content import content_hash
from seglab.data.kept.decoding import Decoding
from seglab.data.kept.digests import Digests
from seglab.data.kept.image_set import ImageSet
from seglab.data.kept.keeping import Keeping, Kept, check_kept
from seglab.data.presence import TRAIN, VAL, absent_classes
from seglab.data.problems import DataError
from seglab.data.split import Rule, SplitError
from seglab.data.value_range import Scaling
from seglab.labels import one_hot

__all__ = ["EpochOrder", "SegmentationData", "Tiles"]

log = logging.getLogger(__name__)


class SegmentationData(pl.LightningDataModule):
    """Batches `image float [B,C,H,W]` in the reader's units, `mask uint8 [B,H,W]`, `target uint8 [B,K,H,W]`, `name`.

    `size`: every pair is resized to it (one number or H, W). `crop`: training sees random crops of it, validation whole
    images. `windows`: an epoch is so many crops of the scenes, and validation the grid of crops. `val_scenes`, or
    `fold` of `folds`, or `val_fraction` choose what validates; before that, `test_scenes` or `test_fraction` choose
    what does neither. The rest trains, or only `train_scenes` of it. Values of `bands` are scaled by `percentiles` of
    the training images, or by `value_range`.
    `cache`: where decoded pixels are kept. `verify`: files are read again, changed or not.
    """

    def __init__(
        self,
        root: str | Path,
        classes: dict[str, str],
        reader: FolderReader,
        augment: list[A.BasicTransform],
        cache_dir: str,
        seed: int,
        size: int | list[int] | None = None,
        crop: int | list[int] | None = None,
        batch_size: int = 8,
        num_workers: int | Literal["auto"] = "auto",
        val_scenes: list[str] | None = None,
        val_fraction: float = 0.2,
        fold: int | None = None,
        folds: int = 5,
        split_seed: int = 0,
        test_scenes: list[str] | None = None,
        test_fraction: float = 0.0,
        train_scenes: list[str] | None = None,
        score_train: bool = False,
        windows: int | None = None,
        balance: str | None = None,
        bands: list[int] | None = None,
        percentiles: list[float] | None = None,
        value_range: list[float] | list[list[float]] | None = None,
        cache: Kept | None = None,
        verify: bool = False,
    ):
        super().__init__()
        check_classes(classes)
        reader.check(classes)
        self._scaling = Scaling(bands, reader.bands, percentiles, value_range)
        check_numbers(batch_size, num_workers)
        check_kept(cache)
        self.root = Path(root).expanduser()
        self.classes = classes
        self.reader = reader
        self.cache_dir = Path(cache_dir).expanduser()
        self.size = height_width("size", size)
        self.crop = height_width("crop", crop)
        check_windows(windows, balance, self.crop)
        self.windows, self.balance = windows, balance
        self._digests = Digests(self.cache_dir, verify)
        how = Decoding(reader, classes, self.size)
        self._keeping = Keeping(cache, self.cache_dir, how, windows is not None, self._digests.check)
        self.augmentation = Augmentation(augment, self.crop)
        self.batch_size = batch_size
        self.seed = seed
        self.score_train = score_train
        self.supply = Supply(num_workers)  # whoever sends batches to a GPU tells it
        self._start = (0, 0)
        named = [None if s is None else [*map(composed, s)] for s in (val_scenes, test_scenes, train_scenes)]
        chosen, kept, learnt = named
        self._rule = Rule(chosen, val_fraction, fold, folds, split_seed, kept, test_fraction, learnt)

    @cached_property
    def _listing(self) -> tuple[list[Pair], list[str]]:
        if not self.root.is_dir():
            raise DataError(self.root, ["no such folder: data.root must hold data/ and label/"])
        return self.reader.pairs(self.root)

    @property
    def pairs(self) -> list[Pair]:
        """All pairs that the reader finds."""
        return self._listing[0]

    @cached_property
    def content(self) -> str:
        """Hash of every file and scene name: what a run's identity knows of its data."""
        return content_hash(self.pairs, self._digests)

    @cached_property
    def cache(self) -> ImageSet | WindowGrid:
        """All pixels, by image or window. Raises DataError, before anything trains, with every unusable pair."""
        self._keeping.check(self.pairs)
        found = self._keeping.open(self.content, self.pairs)
        return WindowGrid(found, self.crop) if self.windows and self.crop else found

    @cached_property
    def value_range(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Low and high `float32 [C]` that a network scales to 0 and 1; None of data that are RGB of 8 bits."""
        return self._scaling.range_of(self.cache.whole, self.pair_sides[0])

    @property
    def original_size(self) -> tuple[int, int] | None:
        """Height and width of all images before `size`; None where they differ."""
        return next(iter(sizes)) if len(sizes := set(self.cache.originals)) == 1 else None

    @property
    def scenes(self) -> dict[str, str]:
        """The scene of each name in the cache, empty where none is known."""
        scenes = [pair.scene or pair.name * bool(self.windows) for pair in self.pairs]
        return {name: scenes[i] for name, i in zip(self.cache.names, self.cache.owners, strict=True)}

    @property
    def indices(self) -> tuple[list[int], list[int]]:
        """Positions in the cache that train and that validate. Raises DataError."""
        return self.sides[:2]

    @cached_property
    def sides(self) -> tuple[list[int], list[int], list[int]]:
        """The same, and those that are kept for the test: no training looks at them. Raises DataError."""
        train, val, test = map(self.cache.of, self.pair_sides)
        return train, val, test

    @cached_property
    def pair_sides(self) -> tuple[list[int], list[int], list[int]]:
        """The same as positions among the pairs. Raises DataError."""
        if not self.windows and all(p.scene is None and p.image.name for p in self.pairs):  # a copy names no files
            log.warning("%s has no scenes.csv: split by name, so crops of one scene may stand on both sides", self.root)
        try:
            return self._rule.sides([p.scene or p.name for p in self.pairs])
        except SplitError as e:
            raise DataError(self.root, [str(e)]) from e

    def setup(self, stage: str | None = None) -> None:
        """Decodes what is not decoded yet and splits. Raises one DataError with every problem of every file.

        Classes that the labels or one side of the split lack are warned of.
        """
        problems = list(self._listing[1])
        for part in ("cache", "pair_sides") if self.pairs else ():
            try:
                getattr(self, part)
            except DataError as e:
                problems += e.problems
        if problems := problems or self._unfit:
            raise DataError(self.root, problems)

    @cached_property
    def _unfit(self) -> list[str]:
        found = fitness.problems(self)
        for sentence in absent_classes(self.class_counts, list(self.classes)) if not found else ():
            log.warning("%s", sentence)
        return found

    @property
    def class_counts(self) -> dict[str, np.ndarray]:
        """Pixels of each class `[K]` on each side of the split."""
        sides = zip((TRAIN, VAL), self.pair_sides[:2], strict=True)
        return {side: self.cache.whole.class_counts[indices].sum(0) for side, indices in sides}

    def train_dataloader(self) -> DataLoader:
        """Augmented training batches; every image once an epoch, or the windows drawn for it."""
        order = EpochOrder(len(self.samples), self.seed, self._start, *self._rank_and_world)
        return self.supply.loader(self.samples, batch_size=self.batch_size, sampler=order)

    @cached_property
    def samples(self) -> Tiles | DrawnWindows:
        """The training samples of an epoch by (position, epoch)."""
        how = (self.augmentation, self.seed)
        if isinstance(self.cache, WindowGrid) and self.windows:
            return DrawnWindows(self.cache, self.pair_sides[0], *how, self.windows, self.balance)
        return Tiles(self.cache, self.indices[0], *how)

    @property
    def _rank_and_world(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def resume_at(self, epoch: int, batches: int) -> None:
        """The next training begins in `epoch` (0 is the first) after so many batches."""
        self._start = (epoch, batches * self.batch_size)

    def val_dataloader(self) -> list[DataLoader]:
        """Loader of the whole validation images in order; with `score_train` a second one of the training images.

        Of several processes each takes its share, every image once. Raises ValueError for more processes than images.
        """
        return self.scored_loaders(*self._rank_and_world)

    def scored_loaders(self, rank: int = 0, world: int = 1) -> list[DataLoader]:
        """The loaders of one of several processes; by default of one that scores all images."""
        if min(map(len, self.indices)) < world:  # all must notice: one that went on would wait for the others
            raise ValueError(f"fewer images to validate than the {world} devices that share them")
        train, val = (indices[rank::world] for indices in self.indices)
        return [self.plain_loader(indices) for indices in ([val, train] if self.score_train else [val])]

    def transfer_batch_to_device(self, batch: dict[str, Any], device: torch.device, dataloader_idx: int) -> Any:
        """The same batch on the device."""
        on_gpu = device.type == "cuda"
        return copied(batch, device) if on_gpu else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Bytes become floats and one-hot only on the device."""
        image = batch["image"].permute(0, 3, 1, 2).float()  # [B,C,H,W], channels last in memory
        return batch | {"image": image, "target": one_hot(batch["mask"], len(self.classes))}

    def plain_loader(self, indices: list[int]) -> DataLoader:
        """Whole images or windows at these positions, in batches as they are scored."""
        sizes = [self.cache.sizes[i] for i in indices]
        if self.windows:
            return self.supply.loader(Tiles(self.cache, indices), batch_sampler=equal_batches(sizes, self.batch_size))
        return self.supply.loader(Tiles(self.cache, indices), batch_size=scored_at_once(set(sizes), self.batch_size))
