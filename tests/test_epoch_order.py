"""The order of an epoch, alone and shared among processes: whole, resumable, and the same whoever reads it."""

import numpy as np
import pytest
from torch.utils.data import BatchSampler

from seglab.data.module import EpochOrder

CASES = [(length, world) for length in (1, 2, 3, 7, 8, 29, 64) for world in (1, 2, 3, 4, 8)]


def positions(order: EpochOrder) -> list[int]:
    return [position for position, _ in order]


def shares(length: int, world: int, epoch: int = 0, seed: int = 0) -> list[list[int]]:
    return [positions(EpochOrder(length, seed, (epoch, 0), rank, world)) for rank in range(world)]


@pytest.mark.parametrize(("length", "world"), CASES)
def test_all_processes_see_every_image_and_repeat_less_than_one_each(length: int, world: int) -> None:
    for epoch in range(3):
        each = shares(length, world, epoch)
        seen = [i for share in each for i in share]
        assert set(seen) == set(range(length))
        assert len(seen) - length == -length % world < world
        assert {len(share) for share in each} == {len(EpochOrder(length, 0, rank=0, world=world))}
        if length >= world:
            assert max(np.bincount(seen)) <= 2


@pytest.mark.parametrize(("length", "world"), CASES)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_step_of_all_processes_is_the_step_of_one_with_their_whole_batch(length: int, world: int, batch: int) -> None:
    alone = list(BatchSampler(EpochOrder(length, 5), batch * world, drop_last=False))
    orders = [EpochOrder(length, 5, rank=rank, world=world) for rank in range(world)]
    together = list(zip(*(BatchSampler(order, batch, drop_last=False) for order in orders), strict=True))
    assert len(alone) == len(together)
    for k, (one, several) in enumerate(zip(alone, together, strict=True)):
        assert len({len(share) for share in several}) == 1  # so that the mean of their means is the mean
        united = [sample for share in several for sample in share]
        if k < len(alone) - 1 or length % world == 0:
            assert sorted(united) == sorted(one)
        else:
            assert set(united) >= set(one) and len(united) - len(one) < world


@pytest.mark.parametrize(("length", "world"), CASES)
def test_an_epoch_goes_on_where_it_was_left_and_the_next_is_whole(length: int, world: int) -> None:
    whole = {epoch: shares(length, world, epoch) for epoch in (2, 3)}
    for seen in range(len(whole[2][0]) + 1):
        for rank in range(world):
            order = EpochOrder(length, 0, (2, seen), rank, world)
            assert positions(order) == whole[2][rank][seen:]
            order.set_epoch(3)
            assert positions(order) == whole[3][rank]


def test_orders_differ_by_epoch_and_seed_and_not_by_what_was_asked_before() -> None:
    order = EpochOrder(50, 1)
    order.set_epoch(4)
    np.random.seed(0)
    first = positions(order)
    np.random.seed(1)
    assert positions(order) == first == shares(50, 1, 4, 1)[0]
    different = {tuple(shares(50, 1, epoch, seed)[0]) for epoch in range(3) for seed in range(3)}
    assert len(different) == 9
