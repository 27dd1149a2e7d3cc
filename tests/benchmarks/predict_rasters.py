"""Memory and speed of `seglab predict` on GeoTIFFs: python -m tests.benchmarks.predict_rasters --out DIR.

Each raster is mapped in a process of its own, which also times the network alone on a tile that is in memory, before
and after. Rates are of pixels of the scene, and of tiles, which overlap: until the last row is scored, and until the
files are written. Run it on a quiet machine.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from seglab.maps.scoring import logits_of
from seglab.predict.predict import Options, write_maps
from seglab.predict.tiles.memory import tiling_for
from seglab.predict.tiles.tiling import Tiling
from seglab.predict.trained import Trained, load
from seglab.run.folder import Run, runs_of
from tests.conftest import draw_images, run_train

MODELS = {
    "unet8": ("model=unet", "model.min_kernel_num=8", "model.depth=3"),
    "unet64": ("model=unet", "model.min_kernel_num=64", "model.depth=4"),
    "unet_mobilenetv2": ("model=unet_mobilenetv2",),
    "deeplabv3plus": ("model=deeplabv3plus",),
}
COLORS = np.array([(90, 90, 90), (200, 60, 60), (60, 160, 60), (40, 60, 200)])
"""Of the classes of the images that runs are trained on."""

TILES_ALONE = 4
"""Forward passes that are timed."""


def main() -> None:
    """Prints a row of the table for each model and raster."""
    parser = argparse.ArgumentParser("tests.benchmarks.predict_rasters", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for rasters, runs and maps")
    parser.add_argument("--sides", type=int, nargs="+", default=[2000, 8000, 20000], help="pixels")
    parser.add_argument("--models", nargs="+", default=["unet8", "deeplabv3plus"], choices=MODELS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.run:
        print(json.dumps(measured(Run(a.run), a.out / f"{a.sides[0]}.tif", a.out / "maps")))
        return
    heads = "network | scene | tile, overlap | memory | scene Mpx/s | tiles scored | tiles written | network alone"
    print(f"| {heads} | share scored | share written |\n|{' --- |' * 10}", flush=True)
    for model in a.models:
        run = trained(model, a.out)
        for side in a.sides:
            drawn(a.out / f"{side}.tif", side)
            command = [sys.executable, "-m", __spec__.name, "--out", a.out, "--sides", side, "--run", run.folder]
            done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
            r = json.loads(done.stdout.splitlines()[-1])
            shares = f"{r['scored'] / r['alone']:.2f} | {r['written'] / r['alone']:.2f}"
            rates = f"{r['scene']:.2f} | {r['scored']:.2f} | {r['written']:.2f} | {r['alone']:.2f} | {shares}"
            print(f"| {model} | {side}² | {r['tile']}, {r['overlap']} | {r['peak']:.2f} GB | {rates} |", flush=True)


def trained(model: str, out: Path) -> Run:
    """A run of one epoch on drawn images."""
    images, folder = out / "images", out / model
    if not folder.exists():
        images.mkdir(parents=True, exist_ok=True)
        draw_images(images)
        message = run_train(images, folder, (*MODELS[model], "epochs=40", "precision=auto", "optimizer.lr=0.01"))
        assert not message, message
    (run,) = runs_of(folder / "default")
    return run


def drawn(path: Path, side: int) -> None:
    """A tiled GeoTIFF of blocks of colours with noise, written row by row."""
    if path.exists():
        return
    rng = np.random.default_rng(0)
    shape = {"height": side, "width": side, "count": 3, "dtype": "uint8", "transform": from_origin(5e5, 3e6, 0.5, 0.5)}
    layout = {"tiled": True, "compress": "deflate", "zlevel": 1, "interleave": "pixel", "crs": "EPSG:32640"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **layout) as file:
        for top in range(0, side, 256):
            height = min(256, side - top)
            colors = COLORS[rng.integers(0, 4, (height // 32 + 1, side // 32 + 1))]
            blocks = np.kron(colors.transpose(2, 0, 1), np.ones((1, 32, 32), int))
            values = blocks[:, :height, :side] + rng.integers(-20, 20, (3, height, side))
            file.write(values.astype(np.uint8), window=((top, top + height), (0, side)))


def measured(run: Run, image: Path, out: Path) -> dict[str, float]:
    """Peak memory in GB, and millions of pixels a second."""
    one = load([run])
    tiling = tiling_for(one.nets)
    with rasterio.open(image) as file:
        height, width = file.shape
    before = alone(one, tiling)
    began = perf_counter()
    times = [began]
    list(write_maps(one, [image], out, Options(), lambda _: times.append(perf_counter())))
    scored, seconds = times[-1] - began, perf_counter() - began
    pixels = [sum(span.stop - span.start for span in tiling.spans(length)) for length in (height, width)]
    return {
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "scene": height * width / seconds / 1e6,
        "scored": pixels[0] * pixels[1] / scored / 1e6,
        "written": pixels[0] * pixels[1] / seconds / 1e6,
        "alone": 2 / (1 / before + 1 / alone(one, tiling)),
        "tile": tiling.size,
        "overlap": tiling.overlap,
    }


def alone(one: Trained, tiling: Tiling) -> float:
    """Millions of pixels of a tile that is in memory, a second."""
    image = np.random.default_rng(0).integers(0, 256, (tiling.size, tiling.size, 3), dtype=np.uint8)
    logits_of(one.nets[0], image)
    began = perf_counter()
    with torch.no_grad():
        for _ in range(TILES_ALONE):
            logits_of(one.nets[0], image)
    return TILES_ALONE * tiling.size**2 / (perf_counter() - began) / 1e6


if __name__ == "__main__":
    main()
