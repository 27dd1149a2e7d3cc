"""Where decoded pixels are kept: on the disk, in memory, or nowhere. The pixels are the same in all three."""

import io
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from seglab.data.folder import Pair
from seglab.data.kept.cache import (
    LARGE,
    CacheFull,
    CacheUnusable,
    amount,
    cached,
    locked,
    need,
    needed,
    open_cache,
    place,
    read_index,
)
from seglab.data.kept.decoding import Decoding, decode
from seglab.data.kept.image_set import ImageSet, InMemory
from seglab.data.kept.source import SourceImages
from seglab.machine.files import write_whole
from seglab.machine.memory import free_memory

Kept = Literal["disk", "memory", "none"]

NOT_KEPT = "%s: the index can't be kept (%s), so the next start decodes all"

log = logging.getLogger(__name__)


def check_kept(kept: str | None) -> None:
    """Raises ValueError for a place that there is not."""
    *others, last = get_args(Kept)
    if kept not in (None, *others, last):
        raise ValueError(f"cache={kept}: accepted is null, {', '.join(others)} or {last}")


@dataclass(frozen=True)
class Keeping:
    """The rule: `kept` says where; null is the disk of `cache_dir`, and nowhere if it has no room for the pixels.

    `windowed`: only windows of scenes are asked for. `unchanged` raises ValueError for files that have changed since
    the content was told.
    """

    kept: Kept | None
    cache_dir: Path
    how: Decoding
    windowed: bool
    unchanged: Callable[[], None]

    def check(self, pairs: Sequence[Pair]) -> None:
        """Raises ValueError where windows of these pairs can't be read from their files, though nothing is kept."""
        if self.kept == "none" and (why := self._whole_only(pairs)):
            raise ValueError(f"data.cache=none with data.windows: {why}; accepted is data.cache=disk or memory")

    def _whole_only(self, pairs: Sequence[Pair]) -> str | None:
        if not self.windowed:
            return None
        return "data.size resizes whole scenes" if self.how.size else self.how.reader.whole_only(pairs)

    def open(self, content: str, pairs: Sequence[Pair]) -> ImageSet:
        """The decoded pairs. Raises DataError with every pair that can't be used, CacheFull and CacheUnusable."""
        if self.kept == "memory":
            return self._in_memory(content, pairs)
        if self.kept == "none":
            return self._nowhere(content, pairs)
        try:
            return open_cache(self.cache_dir, content, pairs, self.how, self.unchanged)
        except CacheFull as e:
            if self.kept == "disk" or self._whole_only(pairs):
                raise
            log.warning("%s. Nothing is kept: each image is decoded whenever it is needed", e)
            return self._nowhere(content, pairs)

    def _in_memory(self, content: str, pairs: Sequence[Pair]) -> InMemory:
        bytes_needed, a_pixel = needed(pairs, self.how)
        free = free_memory()
        if free is not None and bytes_needed > free:
            raise ValueError(
                f"data.cache=memory: {need(bytes_needed, a_pixel)}, {amount(free)} of memory are free; "
                "accepted is data.cache=disk or none, or a smaller data.size"
            )
        if bytes_needed >= LARGE:
            log.info("%s of memory", need(bytes_needed, a_pixel))
        pixels = io.BytesIO()
        copy = cached(self.cache_dir, content, self.how)
        if copy is not None:
            pixels.write(copy.bytes.data)
            return InMemory(read_index(copy.path.parent), pixels.getbuffer())
        index = decode(pairs, self.how, pixels.write)
        self.unchanged()
        return InMemory(index, pixels.getbuffer())

    def _nowhere(self, content: str, pairs: Sequence[Pair]) -> SourceImages:
        """Images by their files, all of which are decoded once, to check them: a later start remembers their index."""
        copy = place(self.cache_dir, content, self.how)
        folder = copy.with_name(f"{copy.name}-index")
        index = known_index(folder, pairs) or known_index(copy, pairs)
        try:
            with locked(folder) if index is None else nullcontext():
                index = index or known_index(folder, pairs) or self._checked(folder, pairs)
        except CacheUnusable as e:
            index = self._decoded(pairs)
            log.warning(NOT_KEPT, folder, e.__cause__)
        images = SourceImages(index, pairs, self.how, folder)
        self.unchanged()
        return images

    def _checked(self, folder: Path, pairs: Sequence[Pair]) -> dict[str, Any]:
        index = self._decoded(pairs)
        try:
            folder.mkdir(exist_ok=True)
            write_whole(folder / "index.json", json.dumps(index))
        except OSError as e:
            log.warning(NOT_KEPT, folder, e)
        return index

    def _decoded(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        index = decode(pairs, self.how, lambda pixels: memoryview(pixels).nbytes)
        self.unchanged()
        log.info("decoded %d pairs once to check them; nothing but an index of them is kept", len(pairs))
        return index


def known_index(folder: Path, pairs: Sequence[Pair]) -> dict[str, Any] | None:
    """The index that a folder keeps of these pairs; None where there is none, or a damaged one."""
    try:
        found = read_index(folder)
        whole = all(len(found[key]) == len(pairs) for key in ("sizes", "class_counts", "originals", "scenes"))
        return found if whole and found["names"] == [pair.name for pair in pairs] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
