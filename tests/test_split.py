"""The split: no scene on both sides, every fold once, and clear errors."""

import pytest

from seglab.data.split import Rule, SplitError, split


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
        ("aa", {}, "each side needs one; parts of a scene"),
        ("abc", {"fold": 5}, r"accepted are 0\.\.4"),
        ("abc", {"fold": 0, "folds": 4}, "only 3 scenes"),
    ],
)
def test_wrong_splits(groups: str, settings: dict, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        split(list(groups), **settings)


GROUPS = [f"s{i // 3}" for i in range(60)]


@pytest.mark.parametrize(
    "how", [{}, {"val_fraction": 0.4}, {"fold": 1, "folds": 3}, {"split_seed": 7}, {"val_scenes": ["s3"]}]
)
def test_without_a_test_split_nothing_changes(how: dict) -> None:
    assert Rule(**how).sides(GROUPS) == (*split(GROUPS, **how), [])


@pytest.mark.parametrize("how", [{"test_fraction": 0.25}, {"test_scenes": ["s3", "s9"]}, {"test_fraction": 0.01}])
def test_the_test_split_is_taken_first_and_the_rest_is_split_as_without_it(how: dict) -> None:
    train, val, test = Rule(**how).sides(GROUPS)
    assert sorted(train + val + test) == list(range(60))
    scenes = [{GROUPS[i] for i in side} for side in (train, val, test)]
    assert not scenes[0] & scenes[1] and not (scenes[0] | scenes[1]) & scenes[2]
    rest = [i for i in range(60) if i not in test]
    parts = split([GROUPS[i] for i in rest])
    assert [train, val] == [[rest[i] for i in part] for part in parts]
    for other in ({"fold": 2}, {"val_fraction": 0.5}):
        assert Rule(**how, **other).sides(GROUPS)[2] == test, "whatever validates"
    folds = [Rule(**how, fold=f, folds=4).sides(GROUPS)[1] for f in range(4)]
    assert sorted(i for fold in folds for i in fold) == rest


def test_a_share_of_the_images_is_tested_by_a_hash_of_its_own() -> None:
    test = Rule(test_fraction=0.25).sides(GROUPS)[2]
    assert len(test) == 15
    assert test != split(GROUPS, val_fraction=0.25)[1], "else a larger validation split would take the test's scenes"
    assert test != Rule(test_fraction=0.25, split_seed=1).sides(GROUPS)[2]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"test_scenes": ["c"]}, r"^test_scenes \['c'\]: no such scene, accepted are \['a', 'b'\]$"),
        ({"test_scenes": ["a"], "val_scenes": ["a"]}, r"^val_scenes \['a'\]: in the test split, too"),
        ({"test_scenes": ["a", "b"]}, "^no image is left beside the test split of 2"),
        ({"test_scenes": ["a"]}, r"each side needs one;.*; 1 scene\(s\) are kept for the test$"),
    ],
)
def test_wrong_test_splits(how: dict, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        Rule(**how).sides("aabb")


@pytest.mark.parametrize("how", [{"test_scenes": ["s2"]}, {"fold": 1, "folds": 4}, {}])
def test_named_scenes_train_and_the_other_sides_stay(how: dict) -> None:
    train, val, test = Rule(**how).sides(GROUPS)
    chosen = sorted({GROUPS[i] for i in train})[::3]
    fewer = Rule(**how, train_scenes=chosen).sides(GROUPS)
    assert fewer == ([i for i in train if GROUPS[i] in chosen], val, test) and 0 < len(fewer[0]) < len(train)


@pytest.mark.parametrize(
    ("scenes", "message"),
    [
        (["d"], r"^train_scenes \['d'\]: no such scene, accepted are \['a', 'b', 'c'\]$"),
        (["b", "c"], r"^train_scenes \['b'\]: on another side of the split; accepted are \['a', 'c'\], or null"),
        ([], r"^train_scenes \[\]: no scene; accepted are \['a', 'c'\], or null for all of them$"),
    ],
)
def test_wrong_scenes_to_train(scenes: list[str], message: str) -> None:
    with pytest.raises(SplitError, match=message):
        Rule(val_scenes=["b"], train_scenes=scenes).sides("aabbcc")


def test_a_fraction_is_a_share() -> None:
    for how in ({"test_fraction": 1.0}, {"test_fraction": -0.1}, {"val_fraction": 0.0}):
        with pytest.raises(ValueError, match=f"^{next(iter(how))}="):
            Rule(**how)
