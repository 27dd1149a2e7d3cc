"""ONNX: a program as the content of a file, with what the file says of itself, and the same computed by onnxruntime."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from seglab.machine.extras import optional

OPSET = 18
IR_VERSION = 8
"""The oldest that the operations need: onnxruntime reads it from 1.14, and QGIS plugins bring old versions."""

WHAT = "--format onnx"


def onnx_of(program: ExportedProgram, output: str, facts: Mapping[str, str]) -> bytes:
    """The content of a file; `facts` are its metadata. Raises ValueError for what ONNX can't say."""
    optional("onnxscript", WHAT)
    optional("onnxruntime", WHAT)
    onnx = optional("onnx", WHAT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                program,
                (),
                input_names=["image"],
                output_names=[output],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert made is not None
            model = made.model_proto
    except Exception as e:  # the exporter raises whatever it likes for a model of somebody's own
        raise ValueError(f"this model can't be exported ({(str(e).splitlines() or [type(e).__name__])[0]})") from e
    model.ir_version = IR_VERSION
    model.producer_name = "seglab"
    del model.graph.value_info[:]  # named by the names of sizes, which change now
    sizes = ("batch", "channels", "height", "width")
    for value in (*model.graph.input, *model.graph.output):
        for name, size in zip(sizes, value.type.tensor_type.shape.dim, strict=True):
            if not size.dim_value:
                size.dim_param = name
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    return model.SerializeToString()


class Session:
    """The content of an ONNX file, computed by onnxruntime on as many threads as torch."""

    def __init__(self, content: bytes):
        runtime = optional("onnxruntime", WHAT)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session: Any = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def of(self, image: np.ndarray) -> np.ndarray:
        """The output of images `float32 [B,C,H,W]`."""
        return self._session.run(None, {"image": image})[0]
