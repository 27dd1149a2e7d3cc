"""`make bench`: the table of a machine, rows that fail, and the rows of a GPU with the CPU in its place."""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seglab.benchmark import benchmark
from tests.benchmarks import __main__ as bench
from tests.benchmarks import gpu, machine, step
from tests.benchmarks.config import composed
from tests.benchmarks.timing import Row
from tests.conftest import SMALL_NET


@pytest.mark.parametrize(
    ("model", "plain"),
    [
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "Intel Xeon Platinum 8481C"),
        ("AMD EPYC 9R14 96-Core Processor", "AMD EPYC 9R14"),
        ("Neoverse-V2", "Neoverse-V2"),
    ],
)
def test_a_machine_is_named_by_what_its_speed_depends_on(model: str, plain: str, monkeypatch) -> None:
    assert machine.plain(model) == plain
    monkeypatch.setattr(machine, "cpu", lambda: plain)
    monkeypatch.setattr(machine, "gpus", lambda: ["NVIDIA A100-SXM4-40GB"] * 2)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": True, "avx512_bf16": False})
    slug = plain.lower().replace(" ", "-")
    assert machine.name() == f"{slug}-avx512-f-8-cores-nvidia-a100-sxm4-40gb"


def test_rows_say_which_way_is_better_and_what_failed() -> None:
    assert str(Row("a", 4.0, 2.0, "s")) == "| a | 4 | 2 | s | 2.00x |"
    assert str(Row("a", 4.0, 2.0, "images/s", True)) == "| a | 4 | 2 | images/s | 0.50x |"
    assert str(Row("a", None, 2.0, "s")) == "| a |  | 2 | s |  |"
    assert str(Row.failed("a", ValueError("b\nc | d"))) == "| a | | failed: ValueError: c / d |  | |"


@pytest.fixture
def run(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`run(*options)` is what the command prints; two of its rows are there, without what is shared."""

    def good(peer: Any, script: Any, tiles: Path, seeds: int) -> Iterator[Row]:
        yield Row(f"{seeds} of {tiles.name}", None if script is None else 2.0, 1.0, "s")

    def bad(*_: Any) -> Iterator[Row]:
        yield Row("before", None, 1.0, "s")
        sys.exit("no such thing")

    monkeypatch.setattr(bench, "ROWS", {"bad": bad, "good": good, "gpu": good})
    monkeypatch.setattr(bench, "SHARED", tmp_path / "nowhere")
    monkeypatch.setattr(machine, "name", lambda: "this-one")

    def call(*options: str) -> str:
        own = [] if "--tiles" in options else ["--tiles", str(images)]
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--out", str(tmp_path / "bench"), *own, *options])
        bench.main()
        return capsys.readouterr().out

    return call


def test_every_row_is_printed_and_kept_also_after_one_that_fails(run, tmp_path: Path) -> None:
    said = run("--seeds", "2")
    kept = (tmp_path / "bench" / "this-one.md").read_text()
    assert said == f"{kept}\n{tmp_path}/bench/this-one.md holds this table\n"
    assert kept.startswith(f"# Benchmarks on {machine.cpu()}\n\n- CPU: ") and f"- torch: {torch.__version__}\n" in kept
    assert "- peer: not found at " in kept and "so the rows are of ours alone" in kept
    rows = [line for line in kept.splitlines() if line.startswith("| ")][2:]
    assert rows[:3] == [
        "| before |  | 1 | s |  |",
        "| bad | | failed: SystemExit: no such thing |  | |",
        "| 2 of images |  | 1 | s |  |",
    ]
    assert len(rows) == 3 + torch.cuda.is_available()


def test_a_part_of_the_rows_has_a_file_of_its_own(run, tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text("")
    assert "| 3 of images | 2 | 1 | s | 2.00x |" in run("--rows", "good", "--peer", str(peer))
    assert [p.name for p in (tmp_path / "bench").iterdir()] == ["this-one-good.md"]
    for options, message in (
        (("--peer", "nowhere.py"), "nowhere.py: not there"),
        (("--tiles", str(tmp_path)), f"{tmp_path}/data: not there"),
        (("--rows", "gpu"), "--rows gpu: torch sees no GPU here"),
    ):
        if "gpu" not in options or not torch.cuda.is_available():
            with pytest.raises(SystemExit, match=message):
                run(*options)


def test_tiles_are_cut_from_the_shared_images_or_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SHARED", tmp_path)
    monkeypatch.setattr(bench, "ensure_scenes", lambda folder, **_: Path(folder) / "drawn")
    assert bench.found_tiles(tmp_path / "out") == (tmp_path / "out" / "drawn", "drawn scenes of 256 x 256")
    script = tmp_path / "data" / "dubai" / "make_tiles.py"
    script.parent.mkdir(parents=True)
    script.write_text("import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.mkdir(parents=True)\n"
                      "(p / 'scenes.csv').touch()")  # fmt: skip
    for _ in range(2):  # the second time, mkdir would fail
        assert bench.found_tiles(tmp_path / "out")[0] == tmp_path / "out" / "tiles"


def test_the_rows_of_a_gpu_with_the_cpu_in_its_place(images: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Some fail, as they may on a GPU, and the others go on."""
    modes: list[str] = []

    def mode(name: str) -> None:
        modes.append(name)
        for _ in range(8 if name == "warn" else 0):
            warnings.warn("called a synchronizing CUDA operation", UserWarning, 1)

    def here(job: gpu.Job) -> gpu.Numbers:
        if {"compile=true", "precision=bf16-mixed"} & {*job.overrides}:
            raise RuntimeError("no compiler")
        small = ("model.depth=1", "data.augment=[]", "epochs=1", "pictures=1", f"output_dir={tmp_path}")
        return gpu.TASKS[job.task](*job.overrides, *SMALL_NET[:2], *small)

    monkeypatch.setattr(gpu, "in_a_process", here)
    monkeypatch.setattr(gpu, "beside", lambda name, *_: Row(name, 1.0, 2.0, "images/s", True))
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", mode)
    found = {row.what: row for row in gpu.rows(None, Path("peer.py"), images, 1, "cpu", {32: 4})}
    assert {f"cpu: step, 32 x 4, peer {how}" for how in ("plain", "tuned")} <= found.keys()
    name = "cpu: training step, 32 x 4"
    for how in ("32", "auto, trainer.deterministic=true"):
        for loading in ("without", "with"):
            number = found[f"{name}, {how}, {loading} loading"].ours
            assert isinstance(number, float) and number > 0
    assert "failed: RuntimeError: ConfigError: precision=16-mixed" in str(found[f"{name}, 16-mixed"].ours)
    assert found[f"{name}, auto, compile=true"].ours == "failed: RuntimeError: no compiler"
    assert found["cpu: waits in a training step"].ours == 2.0 and modes == ["warn", "default"]
    assert "test_benchmarks.py" in str(found["cpu: waits in a training step, the first of them"].ours)
    for option in ("false", "true"):
        name = f"cpu: two trainings, trainer.deterministic={option}"
        assert str(found[name].ours).startswith("equal: ") and found[f"{name}, largest difference"].ours == 0
    assert capsys.readouterr().out.count("training step") == 2


def test_a_task_gives_its_last_line_or_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    monkeypatch.setattr(gpu.sys, "executable", str(program))
    for script, found in (
        ("echo more; echo '{\"\": 2.5}'", {"": 2.5}),
        ("echo trace >&2; echo 'OutOfMemoryError: 3 GiB' >&2; exit 1", "OutOfMemoryError: 3 GiB"),
        ("kill -9 $$", "exit code -9"),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        if isinstance(found, dict):
            assert gpu.in_a_process(gpu.Job("x", "speed", ())) == found
        else:
            with pytest.raises(RuntimeError, match=found):
                gpu.in_a_process(gpu.Job("x", "speed", ()))


def test_the_steps_of_a_benchmark_run_with_and_without_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "composed", lambda *overrides: composed(*overrides, *SMALL_NET))
    monkeypatch.setattr(step, "batch", lambda *_: (torch.rand(2, 3, 32, 32), torch.zeros(2, 32, 32).byte()))
    monkeypatch.setattr(step, "keep_freed_memory", lambda: None)
    for loop in ("unet-plain", "unet-ours", "ours"):
        assert step.speed(loop, tmp_path, 1) > 0
    monkeypatch.setattr(step, "beside", lambda name, theirs, mine, *_: (theirs, mine))
    ours = [([], "ours"), (["unet-plain"], "unet-ours")]
    assert list(step.rows(None, None, tmp_path, 1)) == ours
    with_peer: Any = list(step.rows(None, tmp_path / "peer.py", tmp_path, 1))
    assert with_peer == [(["plain"], "ours"), (["tuned"], "ours"), ours[1]]
