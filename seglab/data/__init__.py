"""From a folder of images and labels to batches."""

from seglab.data.folder import DataError, FolderReader
from seglab.data.module import SegmentationData

__all__ = ["DataError", "FolderReader", "SegmentationData"]
