"""The split: no scene on both sides, every fold once, and clear errors."""

import pytest

from seglab.data.split import SplitError, split


def test_split_by_scene_never_divides_a_scene() -> None:
    groups = [f"s{i // 5}" for i in range(40)]
    for settings in ({}, {"val_fraction": 0.5}, {"fold": 1, "folds": 3}, {"split_seed": 7}):
        train, val = split(groups, **settings)
        assert sorted(train + val) == list(range(40))
        assert not {groups[i] for i in train} & {groups[i] for i in val}
    assert len(split(groups, val_fraction=0.5)[1]) == 20
    assert split(groups, val_scenes=["s2"])[1] == [10, 11, 12, 13, 14]


def test_folds_cover_everything_once() -> None:
    groups = list("aaabbcdefg")
    parts = [split(groups, fold=f, folds=4)[1] for f in range(4)]
    assert sorted(i for p in parts for i in p) == list(range(10))


@pytest.mark.parametrize(
    ("groups", "settings", "message"),
    [
        ("ab", {"val_scenes": ["c"]}, "no such scene, accepted are"),
        ("ab", {"val_scenes": ["a", "b"]}, "0 images to train"),
        ("ab", {"val_scenes": []}, "0 to validate"),
        ("aa", {}, "each side needs one"),
        ("abc", {"fold": 5}, r"accepted are 0\.\.4"),
        ("abc", {"fold": 0, "folds": 4}, "only 3 scenes"),
    ],
)
def test_wrong_splits(groups: str, settings: dict, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        split(list(groups), **settings)
