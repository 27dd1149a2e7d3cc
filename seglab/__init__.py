"""A laboratory for semantic segmentation of aerial images."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would ask a server for its newest version
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is loaded: its profiler tells that it begins and ends
