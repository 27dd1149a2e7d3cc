"""The classes of a label: names, colours and VOID, and the ways between label image, index map and one-hot."""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

VOID = 255
"""Index of a pixel that belongs to no class: no loss, no gradient, no score."""


ROWS = 1024
COUNTERS = 2**22
"""Private rows in which a GPU counts, at most, and counters in all of them: 16 MiB."""


class LabelError(ValueError):
    """A label image holds a value or a colour that is no class."""


def rgb(color: str) -> tuple[int, int, int]:
    """`#rrggbb` as three numbers 0..255; ValueError for any other form."""
    digits = color.removeprefix("#")
    if len(digits) != 6 or not all(c in "0123456789abcdefABCDEF" for c in digits):
        raise ValueError(f"colour {color!r}: expected #rrggbb, for example #3c1098")
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def index_map(label: np.ndarray, num_classes: int) -> np.ndarray:
    """The class index map `uint8 [H,W]` of a label of class ids, `[H,W]` or three equal channels `[H,W,3]`.

    Raises LabelError for channels that differ and for values other than 0..num_classes-1 and VOID, whole as integers or
    as floats.
    """
    if label.ndim == 3:
        if not (label == label[..., :1]).all():
            raise LabelError(
                "the label's channels differ, so it holds colours: data.reader.palette must say which class each is, "
                'for example {"#3c1098": building, ...}'
            )
        label = label[..., 0]
    values = np.unique(label)
    wrong = values[~np.isin(values, [*range(num_classes), VOID])]  # fractions and NaN are in no list
    if wrong.size:
        shown = ", ".join(map(str, wrong[:10])) + (", …" if wrong.size > 10 else "")
        hint = f"; write {VOID} where there is no label" if (wrong != wrong).any() else ""
        raise LabelError(f"label values {shown}: accepted are 0..{num_classes - 1} and {VOID} (void){hint}")
    return label.astype(np.uint8)


def index_map_from_colors(label: np.ndarray, palette: Mapping[str, str], classes: Mapping[str, str]) -> np.ndarray:
    """The class index map `uint8 [H,W]` of a label of colours `uint8 [H,W,3]`.

    `palette` maps `#rrggbb` to a class name or `void`; `classes` are names in the order of their index.
    Raises LabelError for a colour that is not in the palette.
    """
    index = {name: i for i, name in enumerate(classes)} | {"void": VOID}
    packed = label.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    known = {(r << 16) + (g << 8) + b: index[name] for (r, g, b), name in ((rgb(c), n) for c, n in palette.items())}
    colors, inverse = np.unique(packed, return_inverse=True)
    unknown = [f"#{c:06x}" for c in colors.tolist() if c not in known]
    if unknown:
        shown = ", ".join(unknown[:10]) + (", …" if len(unknown) > 10 else "")
        raise LabelError(f"label colours {shown}: accepted are {', '.join(palette)}")
    return np.array([known[c] for c in colors.tolist()], np.uint8)[inverse.reshape(packed.shape)]


def check_palette(palette: Mapping[str, str], classes: Mapping[str, str]) -> None:
    """Raises LabelError unless a palette gives each `#rrggbb` once, with the name of a class or `void`."""
    if not palette:
        raise LabelError('data.reader.palette is empty: accepted is null, or {"#rrggbb": class name, ...}')
    accepted = f"accepted are {', '.join(classes)} and void"
    if "void" in classes:
        raise LabelError("a class called void beside a palette, where void means no class: accepted is another name")
    seen: dict[tuple[int, int, int], str] = {}
    for color, name in palette.items():
        if name not in (*classes, "void"):
            close = difflib.get_close_matches(str(name), [*classes, "void"], 1, 0.5)
            hint = f"did you mean {close[0]}? " if close else ""
            raise LabelError(f"data.reader.palette gives {color} to {name!r}, which is no class; {hint}{accepted}")
        if seen.setdefault(rgb(color), name) != name:
            raise LabelError(f"data.reader.palette gives {color} to {seen[rgb(color)]} and to {name}: accepted is one")


def color_image(mask: np.ndarray, classes: Mapping[str, str]) -> np.ndarray:
    """The picture `uint8 [H,W,3]` of an index map `uint8 [H,W]`; VOID is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = [rgb(c) for c in classes.values()]
    return table[mask]


def one_hot(mask: "Tensor", num_classes: int) -> "Tensor":
    """`uint8 [B,K,H,W]` of an index map `[B,H,W]`; a VOID pixel is all zeros."""
    import torch  # here, so that what reads labels without computing does not wait for it

    classes = torch.arange(num_classes, device=mask.device, dtype=mask.dtype)
    return (mask[:, None] == classes[None, :, None, None]).to(torch.uint8)


def valid_pixels(target: "Tensor") -> "Tensor":
    """`float [B,1,H,W]` of a one-hot `target [B,K,H,W]`: 1 where the pixel has a class, 0 where it is VOID."""
    return target.float().sum(1, keepdim=True)


def occurrences(numbers: "Tensor", count: int) -> "Tensor":
    """Number of times that each of 0..count-1 is in the whole numbers `[N]`, all below `count`: `int64 [count]`."""
    import torch

    if numbers.device.type == "cpu":
        return torch.bincount(numbers, minlength=count)
    return counted_in_rows(numbers, count)  # bincount would wait for the device to say how many counts there are


def counted_in_rows(numbers: "Tensor", count: int) -> "Tensor":
    """The same on a GPU: into private rows, which are summed. All pixels of one class would queue for one counter."""
    import torch

    rows = max(1, min(ROWS, COUNTERS // count))
    index = torch.arange(len(numbers), device=numbers.device).remainder_(rows).mul_(count).add_(numbers)
    ones = torch.ones((), dtype=torch.int32, device=numbers.device).expand(len(numbers))
    found = torch.zeros(rows * count, dtype=torch.int32, device=numbers.device).scatter_add_(0, index, ones)
    return found.view(rows, count).sum(0)
