"""A laboratory for semantic segmentation of aerial images."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it would ask a server for its newest version
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is loaded: its profiler tells that it begins and ends
if "OMP_WAIT_POLICY" not in os.environ:
    # GNU's OpenMP, read when torch is loaded: a thread that waits spins 300,000 times by default. With one other busy
    # process on two cores a step of DeepLabV3+ (8 x 224 x 224) then takes 2.3 s, with 3,000 spins 1.4, and alone 0.7.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
