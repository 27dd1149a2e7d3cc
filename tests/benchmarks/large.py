"""Large data sets: python -m tests.benchmarks.large --out DIR [--rows tiles audit huge] [--images N] [--gigabytes N].

`tiles`: a start, the next start and loading on drawn tiles of 128 pixels, with decoded pixels on the disk, in memory
and nowhere. `audit`: seglab audit on a tenth of them and on all. `huge`: the same starts on JPEG tiles of 1024 pixels
that are so many gigabytes decoded; where they do not fit on the disk, half of them at most are decoded onto it. Each
row is measured in a process of its own. The tiles stay in DIR for the next call (0.8 GB of 20,000, 5 GB of huge ones)
and take minutes to draw; decoded copies are removed. `memory` is the most that a process had for itself, without pages
of files: 0.5 GB are libraries. Run it on a quiet machine.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from seglab.data.synthetic import draw_scene

SIDE, LARGE_SIDE = 128, 1024
SHOWN = 8
"""Large tiles that are drawn."""

DRAWN, TURNS = 4, 8
"""Tiles that are drawn as one scene, and how often each is there: turned and mirrored, which no audit links."""

RESERVE = 10e9
"""Bytes that stay free on the disk."""

FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def draw_tiles(root: Path, scene: int) -> list[str]:
    """Writes the tiles of a scene; their rows of scenes.csv."""
    rows = []
    for k, (image, label) in enumerate(zip(*map(_tiles, draw_scene(1, scene, SIDE, SIDE * DRAWN)), strict=True)):
        name = str(scene * DRAWN * TURNS + k)
        cv2.imwrite(str(root / "data" / f"{name}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), FAST)
        cv2.imwrite(str(root / "label" / f"{name}.png"), label, FAST)
        rows.append(f"{name},s{scene}")
    return rows


def _tiles(picture: np.ndarray) -> Iterator[np.ndarray]:
    for tile in np.split(picture, DRAWN, 1):
        for turned in (np.rot90(tile, quarter) for quarter in range(4)):
            yield from (np.ascontiguousarray(turned), np.ascontiguousarray(turned[::-1]))


def draw_large(root: Path, number: int) -> list[str]:
    """Writes one of SHOWN tiles with a comment of its own, so that no two files are equal; its row of scenes.csv."""
    image, label = _encoded(number % SHOWN)
    note = f"tile {number}".encode()
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(note)) + note
    text = b"tEXtComment\0" + note
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    (root / "data" / f"{number}.jpg").write_bytes(image[:2] + comment + image[2:])  # after the start of the image
    (root / "label" / f"{number}.png").write_bytes(label[:-12] + chunk + label[-12:])  # before its end
    return [f"{number},s{number // 50}"]


@cache
def _encoded(i: int) -> tuple[bytes, bytes]:
    """Image as JPEG and label as PNG of a tile."""
    image, label = draw_scene(2, i, LARGE_SIDE, LARGE_SIDE)
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return jpeg.tobytes(), cv2.imencode(".png", label, FAST)[1].tobytes()


def written(root: Path, draw: Callable[[Path, int], list[str]], count: int) -> Path:
    """The folder of `count` calls of `draw`, each once; made where it is not there."""
    if (root / "scenes.csv").exists():
        return root
    for sub in ("data", "label"):
        (root / sub).mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        rows = [row for part in pool.imap(partial(draw, root), range(count), 16) for row in part]
    (root / "scenes.csv").write_text("name,scene\n" + "\n".join(rows) + "\n")
    return root


def part_of(root: Path, count: int) -> Path:
    """A folder of links to the first `count` pairs."""
    part = root.with_name(f"{root.name}-{count}")
    head, *rows = (root / "scenes.csv").read_text().splitlines()
    if count >= len(rows):
        return root
    if not part.exists():
        for sub in ("data", "label"):
            files = {path.stem: path for path in (root / sub).iterdir()}
            (part / sub).mkdir(parents=True)
            for row in rows[:count]:
                path = files[row.partition(",")[0]]
                os.link(path, part / sub / path.name)
        (part / "scenes.csv").write_text("\n".join([head, *rows[:count]]) + "\n")
    return part


class Memory(threading.Thread):
    """The most memory that this process had for itself, looked at ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.start()

    def run(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            self.most = max(self.most, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
            time.sleep(0.1)


def start(root: str, cache: str, *more: str) -> dict[str, Any]:
    """Seconds until the data are ready, and of them until their files are found and their content is known."""
    from seglab.config.parts import build_data
    from tests.benchmarks.config import composed

    data = build_data(composed("data=folder", f"data.root={root}", f"data.cache_dir={cache}", *more))
    before = time.perf_counter()
    assert data.content
    content = time.perf_counter() - before
    data.setup()
    kept = {"kept as": type(data.cache).__name__}
    return {"start, s": time.perf_counter() - before, "of it digests, s": content, **kept}


def load(root: str, cache: str, *more: str) -> dict[str, Any]:
    """Training images a second of one epoch, of 2,000 images at most, after the first batch."""
    from seglab.config.parts import build_data
    from tests.benchmarks.config import composed

    data = build_data(composed("data=folder", f"data.root={root}", f"data.cache_dir={cache}", *more))
    data.setup()
    batches = iter(data.train_dataloader())
    next(batches)
    before = time.perf_counter()
    seen = 0
    for batch in batches:
        seen += len(batch["name"])
        if seen >= 2000:
            break
    return {"images/s": seen / (time.perf_counter() - before)}


def audit(root: str, *_: str) -> dict[str, Any]:
    """Seconds of everything that `seglab audit` finds."""
    from seglab.audit.audit import audit as found_in

    before = time.perf_counter()
    found = found_in([f"data.root={root}"])
    return {"audit, s": time.perf_counter() - before, "overlaps": len(found.overlaps)}


MEASURED = {"start": start, "load": load, "audit": audit}


def measured(what: str, *arguments: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.large", "--measure", what, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def say(what: str, found: dict[str, Any]) -> None:
    numbers = ", ".join(f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items())
    print(f"{time.strftime('%H:%M:%S')} {what}: {numbers}", flush=True)


def on_disk(folder: Path) -> float:
    """Gigabytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def starts(root: Path, cache: Path, kinds: list[str], *more: str) -> None:
    """Two starts of each kind and its loading, each kind with a cache of its own that is removed."""
    print(f"{root}: {on_disk(root):.2f} GB of files", flush=True)
    for kept in kinds:
        shutil.rmtree(cache, ignore_errors=True)
        how = (str(root), str(cache), f"data.cache={kept}", *more)
        for which in ("first", "second"):
            say(f"{kept}, {which} start", measured("start", *how) | {"disk, GB": on_disk(cache)})
        for workers in (0, 2):
            say(f"{kept}, {workers} workers", measured("load", *how, f"data.num_workers={workers}"))
        if kept == "disk":
            say("disk, verify", measured("start", *how, "data.verify=true"))
    shutil.rmtree(cache, ignore_errors=True)


def main() -> None:
    """Prints each row as soon as it is measured."""
    if sys.argv[1:2] == ["--measure"]:
        memory = Memory()
        found = MEASURED[sys.argv[2]](*sys.argv[3:])
        used = os.times()
        cpu = {"CPU with imports, s": used.user + used.system + used.children_user + used.children_system}
        print(json.dumps(found | cpu | {"memory, GB": memory.most * 1024 / 1e9}))
        return
    parser = argparse.ArgumentParser("tests.benchmarks.large", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the tiles")
    parser.add_argument("--rows", nargs="+", default=["tiles", "audit", "huge"], choices=["tiles", "audit", "huge"])
    parser.add_argument("--images", type=int, default=20_000, help="drawn tiles")
    parser.add_argument("--gigabytes", type=float, default=50, help="size of the huge set once it is decoded")
    arguments = parser.parse_args()
    if arguments.images < 10 or arguments.gigabytes <= 0:
        parser.error("accepted are --images of 10 or more, and --gigabytes above 0")
    kept = arguments.out / "cache"
    if {"tiles", "audit"} & {*arguments.rows}:
        tiles = written(arguments.out / f"tiles{arguments.images}", draw_tiles, arguments.images // DRAWN // TURNS)
    if "tiles" in arguments.rows:
        starts(tiles, kept, ["disk", "memory", "none"])
    for count in (arguments.images // 10, arguments.images) if "audit" in arguments.rows else ():
        say(f"{count} images", measured("audit", str(part_of(tiles, count))))
    if "huge" in arguments.rows:
        count = round(arguments.gigabytes * 1e9 / 4 / LARGE_SIDE**2)
        huge = written(arguments.out / f"huge{count}", draw_large, count)
        fitting = int((shutil.disk_usage(arguments.out).free - RESERVE) / 4 / LARGE_SIDE**2)
        starts(huge, kept, ["null"], "data.crop=512")
        if fitting >= count:
            starts(huge, kept, ["none"], "data.crop=512")
        else:
            starts(part_of(huge, min(fitting, count // 2)), kept, ["disk"], "data.crop=512")


if __name__ == "__main__":
    main()
