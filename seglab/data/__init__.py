"""From a folder of images and labels to batches."""

from seglab.data.folder import FolderReader
from seglab.data.module import SegmentationData
from seglab.data.problems import DataError

__all__ = ["DataError", "FolderReader", "SegmentationData"]
