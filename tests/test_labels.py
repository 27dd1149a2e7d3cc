"""Labels: every accepted form, and the error for every other."""

import numpy as np
import pytest
import torch

from seglab.labels import (
    VOID,
    LabelError,
    check_palette,
    color_image,
    index_map,
    index_map_from_colors,
    one_hot,
    rgb,
    valid_pixels,
)

CLASSES = {"ground": "#c8c8c8", "roof": "#d1495b", "tree": "#3f8f4f"}


def test_ids_in_one_channel_and_in_three_are_the_same_map() -> None:
    ids = np.array([[0, 1], [2, VOID]], np.uint8)
    assert (index_map(ids, 3) == ids).all()
    assert (index_map(np.stack([ids] * 3, -1), 3) == ids).all()
    assert index_map(ids.astype(np.int32), 3).dtype == np.uint8


@pytest.mark.parametrize("wrong", [3, 7, 254, -1, 300])
def test_a_value_that_is_no_class_is_named(wrong: int) -> None:
    with pytest.raises(LabelError, match=rf"label values {wrong}: accepted are 0\.\.2 and 255"):
        index_map(np.array([[0, wrong]], np.int32), 3)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "?"])
def test_whole_numbers_of_any_type_are_ids(kind: str) -> None:
    ids = np.array([[0, 1, 1]]).astype(kind)
    assert index_map(ids, 3).tolist() == [[0, 1, 1]] and index_map(ids, 3).dtype == np.uint8
    if kind not in ("i1", "?"):
        assert index_map(np.array([[0, 2, VOID]]).astype(kind), 3).tolist() == [[0, 2, VOID]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5], "label values 0.5: accepted are 0..2 and 255 (void)"),
        ([2.0000001], "label values 2.0000001: accepted"),
        ([np.nan, 0], "label values nan: accepted are 0..2 and 255 (void); write 255 where there is no label"),
        ([np.inf, -np.inf], "label values -inf, inf: accepted"),
        ([-1.0, 256.0], "label values -1.0, 256.0: accepted"),
        ([*range(20)], "label values 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, …: accepted"),
    ],
)
def test_values_that_are_no_class_are_named_whatever_their_type(values: list, said: str) -> None:
    with pytest.raises(LabelError) as e:
        index_map(np.array([values]), 3)
    assert str(e.value).startswith(said)


@pytest.mark.parametrize(
    ("palette", "said"),
    [
        (
            {"#010101": "rof"},
            "gives #010101 to 'rof', which is no class; did you mean roof? accepted are ground, roof,",
        ),
        ({"#010101": "x"}, "which is no class; accepted are ground, roof, tree and void"),
        ({"#FF0000": "roof", "#ff0000": "tree"}, "gives #ff0000 to roof and to tree: accepted is one"),
        ({}, "is empty: accepted is null"),
    ],
)
def test_palettes_that_do_not_fit_the_classes(palette: dict, said: str) -> None:
    with pytest.raises(LabelError, match=r"data\.reader\.palette") as e:
        check_palette(palette, CLASSES)
    assert said in str(e.value) and "\n" not in str(e.value)
    check_palette({"#ff0000": "roof", "#FF0000": "roof", "#000000": "void"}, CLASSES)
    with pytest.raises(LabelError, match="a class called void beside a palette"):
        check_palette({"#ff0000": "void"}, {"void": "#000000", "roof": "#ffffff"})


def test_colours_need_a_palette() -> None:
    with pytest.raises(LabelError, match=r"data\.reader\.palette"):
        index_map(np.array([[[1, 2, 3]]], np.uint8), 3)


def test_colours_by_palette() -> None:
    palette = {"#ff0000": "roof", "#00FF00": "tree", "#0000ff": "tree", "#000000": "void"}
    label = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 0, 0]]], np.uint8)
    assert index_map_from_colors(label, palette, CLASSES).tolist() == [[1, 2], [2, VOID]]
    with pytest.raises(LabelError, match="label colours #010203: accepted are #ff0000, #00FF00"):
        index_map_from_colors(np.array([[[1, 2, 3]]], np.uint8), palette, CLASSES)


def test_picture_of_a_map_shows_each_class_in_its_colour() -> None:
    picture = color_image(np.array([[0, 2, VOID]], np.uint8), CLASSES)
    assert picture.tolist() == [[[200, 200, 200], [63, 143, 79], [0, 0, 0]]]


def test_one_hot_of_void_is_all_zeros() -> None:
    target = one_hot(torch.tensor([[[0, 2, VOID]]], dtype=torch.uint8), 3)
    assert target.shape == (1, 3, 1, 3)
    assert target.dtype == torch.uint8
    assert target[0, :, 0].T.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert valid_pixels(target).tolist() == [[[[1, 1, 0]]]]


@pytest.mark.parametrize("wrong", ["red", "#12345", "#gggggg", "1234567"])
def test_a_wrong_colour_says_what_is_expected(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected #rrggbb"):
        rgb(wrong)
