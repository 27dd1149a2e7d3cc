"""A laboratory for semantic segmentation of aerial images."""
