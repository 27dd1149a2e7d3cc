"""The same bits again on a GPU, as far as a CPU can tell: the gradient of upsampling, and the operators of a step."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from seglab.config.parts import build_loss
from seglab.models.rewrites import Upsampling, interpolation
from tests.test_conf import choices, composed
from tests.test_device import META, ON_THE_HOST, SMALL_UNET, step
from tests.test_resume import assert_same_cell
from tests.test_train import only_run

ADDS_IN_ANY_ORDER = {
    *(f"upsample_{name}_backward" for name in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")),
    *(f"_upsample_{name}_aa_backward" for name in ("bilinear2d", "bicubic2d")),
    *(f"{kind}_pad{n}d_backward" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward"),
    *("avg_pool3d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward"),
    *("max_unpool2d", "max_unpool3d", "nll_loss_forward", "nll_loss2d_forward", "_ctc_loss_backward", "histc"),
    *("_embedding_bag_dense_backward", "put_", "grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    *("bincount", "median", "nanmedian", "kthvalue", "scatter_reduce_"),
}
"""Operators of which torch says, in `use_deterministic_algorithms`, that a GPU has no deterministic kernel."""


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


class Called(TorchDispatchMode):
    """Names of the operators that are called within it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("coarse", "fine"), [(14, 56), (7, 28), (3, 10), (1, 4), (2, 1), (5, 5), (1, 1), (9, 4)])
def test_two_matrices_are_bilinear_upsampling(coarse: int, fine: int) -> None:
    for dtype, limit in ((torch.double, 1e-14), (torch.float, 1e-5)):
        x = torch.randn(2, 3, coarse, coarse + 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
        rows, columns = interpolation(coarse, fine, x), interpolation(coarse + 2, fine + 3, x)
        assert torch.allclose(rows.sum(1), torch.ones(fine, dtype=dtype)) and rows.dtype == dtype
        wanted = F.interpolate(x, (fine, fine + 3), mode="bilinear", align_corners=True)
        assert (rows @ x @ columns.T - wanted).abs().max() <= limit


@pytest.mark.parametrize("how", [{"scale_factor": 4}, {"size": (11, 5)}, {"size": 5}, {"size": 1}])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 2, 1, 1), (1, 4, 5, 5)])
def test_the_map_keeps_its_bits_and_the_gradient_its_value(shape: tuple[int, ...], how: dict[str, Any]) -> None:
    layer = Upsampling(**how, mode="bilinear", align_corners=True)
    draws = torch.Generator().manual_seed(0)
    for dtype, limit in ((torch.double, 1e-13), (torch.float, 1e-5), (torch.bfloat16, 0.1)):
        x = torch.randn(shape, generator=draws, dtype=dtype).contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        own = layer(x)
        with deterministic(), Called() as called:
            got = layer(x)
            gradient = torch.randn(got.shape, generator=draws, dtype=dtype)
            (mine,) = torch.autograd.grad(got, x, gradient)
        assert torch.equal(got, own) and not called.names & ADDS_IN_ANY_ORDER
        assert mine.dtype == dtype and mine.is_contiguous(memory_format=torch.channels_last)
        (wanted,) = torch.autograd.grad(own, x, gradient)
        assert (mine - wanted).abs().max() <= limit
    with deterministic():
        assert torch.autograd.gradcheck(layer, x.detach().double().requires_grad_())


def test_a_step_of_deeplab_adds_in_any_order_unless_it_is_asked_not_to() -> None:
    with Called() as called:
        step("deeplabv3plus", "cross_entropy")
    assert called.names & ADDS_IN_ANY_ORDER == {"upsample_bilinear2d_backward"}


@pytest.mark.parametrize("model", choices("model"))
def test_no_step_adds_in_any_order(model: str) -> None:
    with deterministic(), Called() as called:
        step(model, "cross_entropy", *(SMALL_UNET if model == "unet" else ()))
    assert {"convolution_backward", "scatter_add_"} <= called.names and not called.names & ADDS_IN_ANY_ORDER


@pytest.mark.parametrize("loss", choices("loss"))
def test_no_loss_adds_in_any_order(loss: str) -> None:
    device = "cpu" if loss in ON_THE_HOST else META
    logits = torch.randn(2, 4, 96, 96, device=device, requires_grad=True)
    target = torch.zeros(2, 4, 96, 96, dtype=torch.uint8, device=device)
    with deterministic(), Called() as called:
        build_loss(composed(f"loss={loss}"))(logits, target).backward()
    assert {"add", "sum"} & called.names and not called.names & ADDS_IN_ANY_ORDER


def test_a_training_that_asks_for_it_says_so_and_is_the_same_again(train, tmp_path: Path) -> None:
    settings = ("model=deeplabv3plus", "epochs=1", "data.augment=[]", "trainer.deterministic=true")
    for place in ("first", "second"):
        assert train(*settings, f"output_dir={tmp_path}/{place}")[0] == ""
    assert not torch.are_deterministic_algorithms_enabled()
    first, second = (only_run(tmp_path / place / "default") for place in ("first", "second"))
    assert_same_cell(first, second)
    assert first.environment()["deterministic"] is True


def test_the_workspace_of_products_is_fixed_before_torch_is_loaded() -> None:
    own = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    script = "import os, sys, seglab; print(os.environ['CUBLAS_WORKSPACE_CONFIG'], 'torch' in sys.modules)"
    for mine, found in ({}, ":4096:8"), ({"CUBLAS_WORKSPACE_CONFIG": ":16:8"}, ":16:8"):
        said = subprocess.run(
            [sys.executable, "-c", script], env=own | mine, capture_output=True, text=True, check=True
        )
        assert said.stdout.split() == [found, "False"]
