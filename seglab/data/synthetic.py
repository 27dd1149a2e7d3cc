"""Procedural aerial scenes: the default data set, drawn from a seed and written as an ordinary folder."""

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy import ndarray as Array
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

GENERATOR_VERSION = 1  # raise it with every change of what is drawn: folders of another version are not used again

GROUND, BUILDING, VEGETATION, WATER = range(4)
GROUNDS = [(150, 126, 96), (152, 146, 102), (186, 170, 136), (140, 136, 128), (138, 136, 92), (166, 142, 118)]
FIELDS = [(96, 122, 66), (122, 136, 80), (80, 108, 62), (136, 144, 92)]
CROWNS = [(62, 92, 50), (76, 104, 54), (54, 80, 50), (88, 104, 58)]
WATERS = [(58, 86, 98), (44, 60, 66), (84, 100, 88), (70, 102, 122)]
ROADS = [(118, 116, 114), (134, 132, 130), (98, 98, 102), (172, 154, 124)]
ROOFS = [(168, 86, 66), (142, 76, 60), (132, 132, 132), (86, 86, 92), (212, 210, 202), (122, 98, 78), (92, 112, 142)]


class Canvas:
    """A scene being drawn: the colour, class and height of each pixel, and what all of them share."""

    def __init__(self, rng: np.random.Generator, height: int, width: int):
        self.rng, self.shape = rng, (height, width)
        self.color = np.zeros((height, width, 3), np.float32)  # 0..255
        self.label = np.zeros(self.shape, np.uint8)
        self.height = np.zeros(self.shape, np.float32)  # above ground, in pixels
        bearing = rng.uniform(0, 2 * np.pi)
        self.sun = rng.uniform(0.6, 1.3) * np.array([np.sin(bearing), np.cos(bearing)])  # shadow per pixel of height
        self.street_angle = rng.uniform(0, np.pi)

    def window(self, point: Array, angle: float = 0, reach: float = np.inf) -> tuple[tuple[slice, slice], Array, Array]:
        """The part of the scene within `reach` of a point, and [h,w] its pixels' offsets along and across `angle`."""
        (top, left), (bottom, right) = np.clip([point - reach, point + reach + 1], 0, self.shape).astype(int).tolist()
        dy = (np.arange(top, bottom)[:, None] - point[0]).astype(np.float32)
        dx = (np.arange(left, right)[None] - point[1]).astype(np.float32)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return (slice(top, bottom), slice(left, right)), dx * c + dy * s, dy * c - dx * s

    def tint(self, tints: list[tuple[int, int, int]]) -> Array:
        """One of the tints, a little lighter or darker and a little off in colour."""
        return np.array(tints[self.rng.integers(len(tints))]) * self.rng.uniform(0.88, 1.12) + self.rng.normal(0, 5, 3)

    def noise(self, exponent: float) -> Array:
        """Fractal noise [H,W] of mean 0 and deviation 1: exponent near 0 is white, 1 rough, 2 cloudy."""
        frequency = np.hypot(np.fft.fftfreq(self.shape[0])[:, None], np.fft.rfftfreq(self.shape[1])[None])
        frequency[0, 0] = np.inf
        field = np.fft.irfft2(np.fft.rfft2(self.rng.standard_normal(self.shape)) * frequency**-exponent, self.shape)
        return (field / field.std()).astype(np.float32)

    def paint(self, at: tuple[slice, slice], mask: Array, color: Array, tone: Array, label: int) -> None:
        """Gives the pixels of `mask` a colour [3] times a tone [h,w], and a class."""
        self.color[at][mask] = color * tone[mask][:, None]
        self.label[at][mask] = label


def draw_scene(seed: int, scene: int, height: int, width: int, label_noise: float = 0.0) -> tuple[Array, Array]:
    """Image `uint8 [H,W,3]` and label `uint8 [H,W]` of one scene, a pure function of the arguments.

    `label_noise`: share of the vegetation patches whose label is spoilt; the image does not depend on it.
    """
    canvas = Canvas(np.random.default_rng([seed, scene]), height, width)
    _paint_ground(canvas)
    if scene % 4 != 3:  # three scenes in four have water, the first of a set among them
        _paint_water(canvas)
    _paint_roads(canvas)
    _paint_buildings(canvas)
    _paint_trees(canvas)
    image = _photograph(canvas)
    _spoil_vegetation(canvas.label, label_noise, np.random.default_rng([seed, scene, 1]))
    return image, canvas.label


def _paint_ground(canvas: Canvas) -> None:
    """Soil, with fields of crops (vegetation) and ploughed ones (ground): both in rows, so that rows tell nothing."""
    rng, first, second = canvas.rng, canvas.tint(GROUNDS), canvas.tint(GROUNDS)
    canvas.color[:] = first + (second - first) / (1 + np.exp(-1.5 * canvas.noise(1.6)))[..., None]
    canvas.color *= (1 + 0.07 * canvas.noise(1.0) + 0.03 * canvas.noise(0.3))[..., None]
    texture = canvas.noise(0.8)
    for _ in range(rng.poisson(canvas.label.size / 7500)):
        length, width = rng.uniform(30, 70), rng.uniform(20, 45)
        angle = canvas.street_angle + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.1)
        at, along, across = canvas.window(rng.uniform(0, canvas.shape), angle, length)
        field = (abs(along) < length / 2) & (abs(across) < width / 2)
        tone = 1 + rng.uniform(0, 0.08) * np.sin(across * 2 * np.pi / rng.uniform(3, 6)) + 0.06 * texture[at]
        tints, label = (FIELDS, VEGETATION) if rng.random() < 0.55 else (GROUNDS, GROUND)
        canvas.paint(at, field, canvas.tint(tints), tone, label)


def _paint_water(canvas: Canvas) -> None:
    """A winding river or a lake, with a bank of bare ground."""
    rng, unit, point = canvas.rng, canvas.shape[0] / 96, canvas.rng.uniform(0, canvas.shape)
    if rng.random() < 0.6:
        at, along, across = canvas.window(point, rng.choice([0, np.pi / 2]) + rng.normal(0, 0.25))
        breadth, bend, pace, phase = rng.uniform([10, 6, 18, 0], [32, 16, 32, 2 * np.pi])
        slope = bend / pace * np.cos(along / pace + phase)
        course = abs(across - bend * np.sin(along / pace + phase)) / np.sqrt(1 + slope**2)
        shore = course - unit * breadth / 2 * (1 + 0.2 * np.sin(along / 23))
    else:
        at, along, across = canvas.window(point)
        radius, around = unit * rng.uniform(28, 50), np.arctan2(across, along)
        for k in range(2, 6):
            radius = radius * (1 + rng.uniform(0, 0.3) / k * np.cos(k * around + rng.uniform(0, 2 * np.pi)))
        shore = np.hypot(along, across) - radius
    shore = shore + 0.6 * canvas.noise(1.0)
    canvas.paint(at, shore < rng.uniform(1, 4), canvas.tint(GROUNDS), 1 + 0.05 * canvas.noise(1.0), GROUND)
    shallows = 0.15 * np.exp(np.minimum(shore, 0) / 3)
    canvas.paint(at, shore < 0, canvas.tint(WATERS), 1 + 0.05 * canvas.noise(2.0) + shallows, WATER)


def _paint_roads(canvas: Canvas) -> None:
    rng, texture = canvas.rng, canvas.noise(0.4)
    for i in range(2 + rng.poisson(canvas.label.size / 25000)):
        at, along, across = canvas.window(rng.uniform(0, canvas.shape), canvas.street_angle + i % 2 * np.pi / 2)
        kink, softened = rng.choice([0, rng.normal(0, 0.25)]), np.sqrt(along**2 + 60)
        breadth, off_centre = rng.uniform(3, 10), abs(across - kink * softened) / np.hypot(1, kink * along / softened)
        road = off_centre < breadth / 2
        lane = (off_centre < 0.6) & (np.mod(along, 9) < 5) & (breadth > 5)
        tone = 1 + 0.04 * texture - 0.12 * (off_centre > breadth / 2 - 1) + 0.35 * lane
        canvas.paint(at, road, canvas.tint(ROADS), tone, GROUND)
        canvas.height[road] = -1  # keeps houses off, which set it back to 0


def _paint_buildings(canvas: Canvas) -> None:
    """Houses and halls in settlements, on free ground, until they cover a share of the scene that is drawn too."""
    rng, texture, wanted = canvas.rng, canvas.noise(0.3), canvas.rng.uniform(0.08, 0.24) * canvas.label.size
    free = (canvas.noise(1.8) > rng.uniform(-1.8, -0.2)) & (canvas.height == 0) & (canvas.label == GROUND)
    canvas.height[:] = 0
    for spot in rng.uniform(0, canvas.shape, (canvas.label.size // 40, 2)):
        if wanted < 0 or not free[*spot.astype(int)]:
            continue
        length = rng.uniform(20, 36) if rng.random() < 0.2 else rng.uniform(6, 20)
        width, angle = length * rng.uniform(0.5, 0.9), canvas.street_angle + rng.choice([0, np.pi / 2])
        at, along, across = canvas.window(spot, angle + rng.normal(0, 0.06), length + 3)
        outside = np.maximum(abs(along) - length / 2, abs(across) - width / 2)
        if length > 9 and rng.random() < 0.35:  # a wing makes it an L
            wing = np.maximum(abs(along - length / 4) - length / 4, abs(across - width / 2) - width / 2)
            outside = np.minimum(outside, wing)
        roof, plot = outside < 0, outside < 1.5
        if not free[at][plot].all():
            continue
        like_ground = rng.random() < 0.15
        color = canvas.color[at][roof].mean(0) * rng.uniform(0.95, 1.15) if like_ground else canvas.tint(ROOFS)
        gable = rng.choice([0, 0.16]) * np.sin(angle - np.arctan2(*canvas.sun)) * np.sign(across)
        rim = rng.choice([-0.1, 0.1]) * (outside > -1)
        canvas.paint(at, roof, color, 1 + gable + rim + 0.03 * texture[at], BUILDING)
        canvas.height[at][roof] = rng.uniform(2.5, 5) + length / 8
        free[at][plot] = False
        wanted -= roof.sum()


def _paint_trees(canvas: Canvas) -> None:
    """Clumps of crowns, from one tree to a wood, until they cover a share of the scene that is drawn too."""
    rng, texture, wanted = canvas.rng, canvas.noise(0.5), canvas.rng.uniform(0.08, 0.24) * canvas.label.size
    free = np.isin(canvas.label, (GROUND, VEGETATION))
    while wanted > 0 and free.any():
        centre, count, color = rng.uniform(0, canvas.shape), 1 + int(rng.exponential(7)), canvas.tint(CROWNS)
        for spot in rng.normal(centre, 1.8 * np.sqrt(count - 1), (count, 2)):
            radius, shade, turn, twist = rng.uniform([2, 0.9, 0, 0], [6.5, 1.1, 2 * np.pi, 2 * np.pi])
            at, dx, dy = canvas.window(spot, reach=radius * 1.4)
            around, away = np.arctan2(dy, dx), np.hypot(dy, dx) / radius
            crown = free[at] & (away < 1 + 0.12 * np.sin(3 * around + turn) + 0.12 * np.sin(5 * around + twist))
            facing = -(dy * canvas.sun[0] + dx * canvas.sun[1]) / (radius * np.hypot(*canvas.sun))
            canvas.paint(at, crown, color * shade, 1 + 0.22 * facing + 0.16 * texture[at], VEGETATION)
            dome = crown * radius * (0.6 + np.sqrt(np.maximum(0, 1.2 - away**2)))
            np.maximum(canvas.height[at], dome, out=canvas.height[at])
            wanted -= crown.sum()


def _photograph(canvas: Canvas) -> Array:
    """Shadows, light, haze, blur and sensor noise: the image `uint8 [H,W,3]`."""
    rng, (rows, columns), top = canvas.rng, canvas.shape, canvas.height.max()
    margin = int(top * abs(canvas.sun).max()) + 1
    padded, blocked = np.pad(canvas.height, margin), np.zeros_like(canvas.height)
    for fall in np.arange(0.5, top, 0.5):  # pixels a sunbeam has come down since it passed a top
        y, x = (margin - np.round(fall * canvas.sun)).astype(int)
        blocked = np.maximum(blocked, padded[y : y + rows, x : x + columns] - np.float32(fall))
    shadow = ndimage.gaussian_filter(np.float32(blocked > canvas.height + 0.5), 0.5)[..., None]
    color = canvas.color * (1 - shadow * [0.56, 0.51, 0.43])
    color *= rng.uniform(0.8, 1.15) * (1 + 0.06 * canvas.noise(2.5))[..., None] * rng.normal(1, 0.04, 3)
    haze, blur, grain = rng.uniform([0, 0.35, 2], [0.15, 0.75, 5])
    color = ndimage.gaussian_filter(color + haze * ([150, 160, 175] - color), (blur, blur, 0))
    return np.clip(color + rng.normal(0, grain, color.shape), 0, 255).round().astype(np.uint8)


def _spoil_vegetation(label: Array, share: float, rng: np.random.Generator) -> None:
    """Marks a share of the connected vegetation patches wrongly: missed, shifted, or as a hexagon around."""
    patches, count = ndimage.label(label == VEGETATION)
    spoilt = 1 + rng.permutation(count)[: round(share * count)]
    label[np.isin(patches, spoilt)] = GROUND
    for patch in spoilt[1::3]:
        turn, far = rng.uniform([0, 3], [2 * np.pi, 7])
        moved = ndimage.shift(patches == patch, (round(far * np.sin(turn)), round(far * np.cos(turn))), order=0)
        label[moved & (label == GROUND)] = VEGETATION
    rows, columns = np.indices(label.shape)
    for patch in spoilt[2::3]:
        ahead = [rows * np.sin(a) + columns * np.cos(a) for a in rng.uniform(0, 1) + np.arange(6) * np.pi / 3]
        hexagon = np.all([side <= side[patches == patch].max() + 2 for side in ahead], 0)
        label[hexagon & (label == GROUND)] = VEGETATION


def write_scenes(root: Path, num_scenes: int, tiles_per_scene: int, size: int, seed: int, label_noise: float) -> None:
    """Writes tiles, side by side in their scene, and scenes.csv; FileExistsError where images are already."""
    least = {"num_scenes": 1, "tiles_per_scene": 1, "size": 32, "seed": 0}
    for (name, minimum), value in zip(least.items(), (num_scenes, tiles_per_scene, size, seed), strict=True):
        if value < minimum:
            raise ValueError(f"{name}={value}: accepted is {minimum} or more")
    if not 0 <= label_noise <= 1:
        raise ValueError(f"label_noise={label_noise}: accepted is a share from 0 to 1")
    for folder in ("data", "label"):
        (root / folder).mkdir(parents=True)
    for scene in tqdm(range(num_scenes), "drawing scenes", disable=None):
        pictures = draw_scene(seed, scene, size, size * tiles_per_scene, label_noise)
        for k in range(tiles_per_scene):
            for folder, picture in zip(("data", "label"), pictures, strict=True):
                tile = Image.fromarray(picture[:, k * size : (k + 1) * size])
                tile.save(root / folder / f"{scene * tiles_per_scene + k}.png")
    rows = [f"{k},scene{k // tiles_per_scene:02d}\n" for k in range(num_scenes * tiles_per_scene)]
    (root / "scenes.csv").write_text("name,scene\n" + "".join(rows), encoding="utf-8")


def ensure_scenes(
    cache_dir: str | Path,
    num_scenes: int = 20,
    tiles_per_scene: int = 4,
    size: int = 96,
    seed: int = 0,
    label_noise: float = 0.0,
) -> Path:
    """The folder of these scenes under `cache_dir`: drawn where it is missing, never there half-written."""
    identity = f"{GENERATOR_VERSION} {num_scenes} {tiles_per_scene} {size} {seed} {float(label_noise)}"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:10]
    final = Path(cache_dir).expanduser() / f"synthetic-{num_scenes}x{tiles_per_scene}-{size}px-seed{seed}-{digest}"
    if not final.is_dir():
        final.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{final.name}-", dir=final.parent) as temporary:
            drawn = Path(temporary) / "drawn"  # one level down: a temporary folder itself is closed to other users
            write_scenes(drawn, num_scenes, tiles_per_scene, size, seed, label_noise)
            try:
                os.rename(drawn, final)
            except OSError:
                if not final.is_dir():  # else another process was first, with the same pictures
                    raise
    return final
