"""Reads checkpoints, those of anybody too, and finds the newest one that a training may go on from."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seglab.run.folder import Run
from seglab.run.reading import RecordError, inside


@dataclass(frozen=True)
class Found:
    """A whole checkpoint: `epochs` were finished and `batches` of the next one."""

    epochs: int
    batches: int
    path: Path
    run: Run


def link(source: Path, name: Path) -> None:
    """A second name for a file that is only ever replaced, never written into; a copy where links are not possible."""
    making = name.with_suffix(".linking")
    making.unlink(missing_ok=True)
    try:
        os.link(source, making)
    except OSError:
        shutil.copyfile(source, making)
    making.replace(name)


def write(content: dict[str, Any], making: Path) -> None:
    """Writes a new file, which is on the disk when this returns. What a kill leaves has a name that is used again."""
    making.unlink(missing_ok=True)
    with making.open("xb") as f:
        torch.save(content, f)
        f.flush()
        os.fsync(f.fileno())


def drop_optimizer(path: Path, run: Run, making: Path) -> None:
    """Replaces a checkpoint by one without what only a training needs that resumes from it."""
    content = _content(path, run)
    if content and content.get("optimizer_states"):
        write(content | {"optimizer_states": []}, making)
        making.replace(path)


def read(path: Path, run: Run) -> tuple[Found, str] | None:
    """The checkpoint in a file and the identity it was trained under; None if it is missing, cut short or damaged."""
    content = _content(path, run)
    if content is None:
        return None
    return Found(content["progress"]["epochs"], content["progress"]["batches"], path, run), content["identity"]


def _content(path: Path, run: Run) -> dict[str, Any] | None:
    """All that a whole checkpoint holds: tensors and plain values, together no larger than the file. Else None."""
    try:
        real = inside(path, run.folder)
        with zipfile.ZipFile(real) as archive:
            larger = sum(part.file_size for part in archive.infolist()) > real.stat().st_size
            if larger or archive.testzip() is not None:  # compares the check sum of every tensor
                return None
        content = torch.load(real, map_location="cpu", weights_only=True, mmap=True)
        counts = [content["progress"][part] for part in ("epochs", "batches")]
        right = all(type(n) is int and n >= 0 for n in counts) and isinstance(content["identity"], str)
        return content if right and isinstance(content["state_dict"], dict) else None
    except Exception:  # a damaged pickle raises nearly anything: IndexError, AttributeError, UnicodeDecodeError ...
        return None


def weights(path: Path, run: Run) -> dict[str, torch.Tensor]:
    """The network's weights in a checkpoint from anybody. Raises RecordError, one line, for one that can't be read."""
    content = _content(path, run)
    if content is None:
        raise RecordError(f"{path}: not a readable checkpoint of this run")
    named = {str(name): value for name, value in content["state_dict"].items()}
    found = {name.removeprefix("net."): value for name, value in named.items() if name.startswith("net.")}
    plain = all(isinstance(v, torch.Tensor) and v.layout == torch.strided and v.is_cpu for v in found.values())
    if not plain or sum(v.numel() * v.element_size() for v in found.values()) > path.stat().st_size:
        raise RecordError(f"{path}: not a readable checkpoint of this run (it holds other things than weights)")
    return found


def digest(path: Path, run: Run) -> str:
    """Hash of a checkpoint's file. Raises RecordError for a link out of the run folder."""
    with inside(path, run.folder).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a whole checkpoint of this training."""
    return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]


def own(run: Run, identity: str, epochs: int) -> Found | None:
    """The newest whole checkpoint of a run itself, at most `epochs` long."""
    found = (read(path, run) for path in (run.last_checkpoint, run.previous_checkpoint))
    usable = [f for f, key in filter(None, found) if key == identity and f.epochs <= epochs]
    return max(usable, key=lambda f: (f.epochs, f.batches), default=None)


def shared(others: Iterable[tuple[Run, int]], identity: str) -> Found | None:
    """The longest whole checkpoint of other runs of the same identity that ends with an epoch.

    Each run comes with the number of epochs that it shares, and must have kept the best checkpoint of those it gives.
    """
    longest: Found | None = None
    trained = ((min(_rows_of(other), epochs), other) for other, epochs in others)
    for epochs, other in sorted(trained, key=lambda t: -t[0]):  # its rows tell, before a large file is read
        reached = longest.epochs if longest else 0
        if reached >= epochs:
            break
        found = own(other, identity, epochs)
        if found and found.batches == 0 and found.epochs > reached and _holds(other, found.epochs):
            best = read(other.best_checkpoint, other)
            if best and best[0].epochs == other.best(found.epochs)["epoch"]:
                longest = found
    return longest


def _rows_of(run: Run) -> int:
    try:
        return len(run.metrics())
    except (OSError, ValueError):
        return 0


def _holds(run: Run, epochs: int) -> bool:
    try:
        return run.holds(epochs)
    except (OSError, ValueError):
        return False  # a damaged folder gives nothing, and stops nobody
