"""int8 beside float in onnxruntime: python -m tests.benchmarks.export_int8 RUN [--data ROOT] [--threads N].

RUN is a finished run, ROOT its images, by default their decoded copy in the cache. Both files see the same validation
images in turn, one at a time. Run it on a quiet machine, and on the kind of CPU that will make the maps: a CPU without
instructions for 8 bits (vnni, amx_int8) gains little.
"""

import argparse
from pathlib import Path

import torch

from seglab.config.foreign import check_model
from seglab.config.read import read
from seglab.predict.export import Wish, facts_of, made
from seglab.predict.int8 import measured, quantised
from seglab.predict.program import Form
from seglab.predict.samples import samples_of
from seglab.predict.trained import trained_network
from seglab.run.folder import Run

FEATURES = ("avx2", "avx512_f", "avx512_vnni", "amx_int8", "amx_tile")


def main() -> None:
    """Prints size, mIoU and speed of both files as a table."""
    parser = argparse.ArgumentParser("tests.benchmarks.export_int8", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = Run(arguments.run)
    config = check_model(read(run))
    net = trained_network(run, config)
    samples = samples_of(run, config, arguments.data)
    form = Form()
    content, _ = made(net, form, facts_of(run, config, net, Wish()), "onnx")
    files = {"float32": content, "int8": quantised(content, samples, form)}
    there = torch.cpu.get_capabilities()
    print(f"CPU with {', '.join(f for f in FEATURES if there.get(f))}; {arguments.threads} threads\n")
    print("| file | MB | validation mIoU | ms an image |\n| --- | ---: | ---: | ---: |")
    for name, one in zip(files, measured(list(files.values()), samples, form, list(config.classes)), strict=True):
        print(f"| {name} | {one.megabytes:.2f} | {one.miou:.4f} | {one.milliseconds:.1f} |")


if __name__ == "__main__":
    main()
