"""A laboratory for semantic segmentation of aerial images."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would ask a server for its newest version
