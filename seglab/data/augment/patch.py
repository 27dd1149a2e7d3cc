"""The pixels of a sample as the rectangle of an image that they are, flipped and turned, before any of them is read."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

Box = tuple[int, int, int, int]
"""Top, left, bottom and right."""

Corners = tuple[int, int, int, int]

UPRIGHT: Corners = (0, 1, 2, 3)

TRANSPOSED = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32}
FLIPPED = range(1, 129)
"""Bytes of a pixel that OpenCV transposes, and flips. Others are left to NumPy, which takes 4 to 14 times as long."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A rectangle of an image, flipped or turned. Outside of `held` there are no pixels of it.

    `corners` are those of the rectangle that are seen at top left, top right, bottom left and bottom right: numbers
    0..3 in that order. `turned`, `part` and `padded` are what is done to what is seen.
    """

    box: Box
    held: Box
    corners: Corners = UPRIGHT

    @staticmethod
    def of(top: int, left: int, height: int, width: int) -> "Patch":
        """A part of an image as it is."""
        box = top, left, top + height, left + width
        return Patch(box, box)

    @property
    def transposed(self) -> bool:
        """True if rows of the image are seen as columns."""
        return self.corners[0] // 2 != self.corners[1] // 2

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width as they are seen."""
        height, width = self.box[2] - self.box[0], self.box[3] - self.box[1]
        return (width, height) if self.transposed else (height, width)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the image."""
        return slice(self.box[0], self.box[2]), slice(self.box[1], self.box[3])

    @property
    def whole(self) -> bool:
        """True if there is a pixel of the image everywhere."""
        return self._known == self.box

    @property
    def _known(self) -> Box:
        (top, left, bottom, right), held = self.box, self.held
        return max(top, held[0]), max(left, held[1]), min(bottom, held[2]), min(right, held[3])

    def seen_from(self, top: int, left: int) -> "Patch":
        """The same, where the pixel at (top, left) of the image is the first that is there."""
        if top == left == 0:
            return self
        return replace(self, box=_moved(self.box, -top, -left), held=_moved(self.held, -top, -left))

    def turned(self, corners: Corners) -> "Patch":
        """The same pixels, where an upright picture would show these corners."""
        a, b, c, d = corners
        now = self.corners
        return replace(self, corners=(now[a], now[b], now[c], now[d]))

    def part(self, top: int, left: int, bottom: int, right: int) -> "Patch":
        """A rectangle of what is seen."""
        rows, columns = ((left, right), (top, bottom)) if self.transposed else ((top, bottom), (left, right))
        y, x, *_ = self.box
        upper, lower = self._forward(0, *rows)
        near, far = self._forward(1, *columns)
        return replace(self, box=(y + upper, x + near, y + lower, x + far))

    def padded(self, top: int, left: int, bottom: int, right: int) -> "Patch":
        """The same with so many pixels of nothing at each side."""
        height, width = self.shape
        return replace(self, held=self._known).part(-top, -left, height + bottom, width + right)

    def _forward(self, axis: int, first: int, last: int) -> tuple[int, int]:
        """A range along an axis of the rectangle as it is seen, or as it is in the image where it is seen."""
        length = self.box[axis + 2] - self.box[axis]
        return (length - last, length - first) if self._backward(axis) else (first, last)

    def _backward(self, axis: int) -> bool:
        return bool(self.corners[0] % 2 if axis else self.corners[0] // 2)

    def of_pixels(self, pixels: np.ndarray, fill: int) -> np.ndarray:
        """A copy of what is seen of an image `[H,W]` or `[H,W,C]`, with `fill` where it holds nothing."""
        if self.whole:
            return _turned(pixels[self.slices], self._backward(0), self._backward(1), self.transposed)
        top, left, bottom, right = self.box
        canvas = np.full((bottom - top, right - left, *pixels.shape[2:]), fill, pixels.dtype)
        upper, near, lower, far = self._known
        if upper < lower and near < far:
            canvas[upper - top : lower - top, near - left : far - left] = pixels[upper:lower, near:far]
        return _turned(canvas, self._backward(0), self._backward(1), self.transposed)

    def steps(self, width: int) -> list[int]:
        """The place in a flat image of this width, of the pixel at top left, and its change by row and by column.

        After them the box in what is seen that has pixels: `part` the other way round.
        """
        top, left, bottom, right = self.box
        row, column = bottom - 1 if self._backward(0) else top, right - 1 if self._backward(1) else left
        by_row, by_column = -width if self._backward(0) else width, -1 if self._backward(1) else 1
        upper, near, lower, far = self._known
        rows, columns = self._forward(0, upper - top, lower - top), self._forward(1, near - left, far - left)
        if self.transposed:
            by_row, by_column, rows, columns = by_column, by_row, columns, rows
        return [row * width + column, by_row, by_column, rows[0], columns[0], rows[1], columns[1]]


def _moved(box: Box, down: int, right: int) -> Box:
    return box[0] + down, box[1] + right, box[2] + down, box[3] + right


FLIPS = {(True, False): 0, (False, True): 1, (True, True): -1}
TURNS = {(True, False): cv2.ROTATE_90_CLOCKWISE, (False, True): cv2.ROTATE_90_COUNTERCLOCKWISE}
"""OpenCV's words for rows, columns or both read backwards; and for the first two after which sides are swapped."""


def _turned(part: np.ndarray, rows: bool, columns: bool, transposed: bool) -> np.ndarray:
    """A copy with rows and columns read backwards where it says so, then transposed.

    Of any type: pixels are moved as bytes.
    """
    if not rows and not columns and not transposed:
        return np.array(part)
    flat = part.view(np.uint8)
    pixel = flat.shape[2] if flat.ndim == 3 else 1
    if pixel not in (TRANSPOSED if transposed else FLIPPED):
        items = flat.view(f"V{pixel}")[:: -1 if rows else 1, :: -1 if columns else 1]
        return np.array(items.swapaxes(0, 1) if transposed else items, order="C").view(part.dtype)
    if not transposed:
        out = cv2.flip(flat, FLIPS[rows, columns])
    elif rows != columns:
        out = cv2.rotate(flat, TURNS[rows, columns])
    else:
        out = cv2.transpose(flat)
        out = cv2.flip(out, -1) if rows else out
    height, width = out.shape[:2]
    return out.reshape(height, width, *flat.shape[2:]).view(part.dtype)
