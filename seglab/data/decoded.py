"""Data of which nothing but the decoded copy is read: whoever has trained on them need not say where they are."""

from functools import cached_property
from pathlib import Path
from typing import Any

from seglab.data.folder import Pair
from seglab.data.kept.cache import PixelCache
from seglab.data.module import SegmentationData


class DecodedData(SegmentationData):
    """Names, scenes and pixels of a copy that is in `cache_dir` under `content`; `settings` as of SegmentationData.

    The pairs name no files.
    """

    def __init__(self, copy: PixelCache, content: str, cache_dir: Path, **settings: Any):
        super().__init__(cache_dir, cache_dir=str(cache_dir), **settings)
        self._copy = copy
        self._content = content

    @cached_property
    def _listing(self) -> tuple[list[Pair], list[str]]:
        scenes = self._copy.scenes or [None] * len(self._copy)
        return [Pair(n, Path(), Path(), scene) for n, scene in zip(self._copy.names, scenes, strict=True)], []

    @property
    def tells_scenes(self) -> bool:
        """True if it knows from which scene each image is, or that none is known."""
        return self._copy.scenes is not None

    @cached_property
    def content(self) -> str:
        return self._content
