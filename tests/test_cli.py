"""The `seglab` command on a real run: its table, its maps, how it ends, and what it says to the wrong input."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from seglab import cli
from seglab.labels import color_image
from seglab.maps.scoring import predict
from seglab.predict.predict import load_network
from seglab.run.folder import Run, runs_of
from tests.conftest import ROOT


@pytest.fixture
def run(copied) -> Run:
    (run,) = runs_of(copied("epochs=1"))
    return run


def process(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "seglab.cli", *map(str, arguments)]
    return subprocess.run(command, text=True, cwd=ROOT, **{"stderr": subprocess.PIPE, **options}, check=False)


def test_grid(seglab, run: Run) -> None:
    study = run.folder.parent
    code, printed, errors = seglab("grid", study)
    assert (code, errors) == (0, "") and printed == (study / "grid.md").read_text()
    assert f"| cross_entropy | {run.results()['val']['miou']:.4f}" in printed


def test_maps_of_images_of_any_size(seglab, run: Run, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 51, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "scene.tif")
    for checkpoint in ("last", "best"):
        out = tmp_path / checkpoint
        asked = ("--out", out, "--checkpoint", checkpoint)
        code, printed, errors = seglab("predict", run.folder, tmp_path / "scene.tif", *asked)
        assert code == 0 and errors.startswith("seglab: 1 of 1 images, 0.00189 Mpx, ")
        assert printed == f"{out / 'scene.png'}\n"
        with Image.open(out / "scene.png") as ids, Image.open(out / "scene_color.png") as colors:
            assert (np.asarray(ids) == predict(load_network(run, checkpoint), image)).all()
            assert (np.asarray(colors) == color_image(np.asarray(ids), run.config()["data"]["classes"])).all()


def test_no_map_replaces_a_map_or_an_image(seglab, run: Run, tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "b/1_color.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    before = (tmp_path / "a/1.png").read_bytes()
    for names, out in ((("a/1.png",), "a"), (("a/1.png", "b/1.png"), "out"), (("a/1.png", "b/1_color.png"), "out")):
        ended = seglab("predict", run.folder, *(tmp_path / n for n in names), "--out", tmp_path / out)
        assert ended.code == 1 and "would replace" in ended.err
    assert (tmp_path / "a/1.png").read_bytes() == before and not (tmp_path / "out").exists()


def test_progress_is_shown_in_a_terminal_only(seglab, run: Run, tmp_path: Path, monkeypatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "i.bmp")
    command = ("predict", run.folder, tmp_path / "i.bmp", "--out", tmp_path)
    assert "maps:" not in seglab(*command).err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ended = seglab(*command)
    assert "maps:" in ended.err and str(tmp_path / "i.png") in ended.out


def test_wrong_input_is_one_line(seglab, run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    for arguments, message in {
        ("grid", tmp_path / "none"): "no run folder in it; accepted is a folder such as outputs/default",
        ("predict", tmp_path, tmp_path / "text.png"): "accepted is a run folder",
        ("predict", run.folder, tmp_path / "text.png"): "text.png: not a readable image",
    }.items():
        code, _, errors = seglab(*arguments)
        assert code == 1 and errors.startswith("seglab: ") and message in errors and errors.count("\n") == 1
    run.last_checkpoint.write_bytes(b"broken")
    assert "last.ckpt: not a readable checkpoint" in seglab("predict", run.folder, tmp_path / "text.png").err


def test_a_run_folder_from_elsewhere_runs_nothing(seglab, run: Run, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "i.png")

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    run.last_checkpoint.write_bytes(pickle.dumps({"state_dict": Evil()}))
    assert "not a readable checkpoint" in seglab("predict", run.folder, tmp_path / "i.png").err
    config = run.config()
    config["model"] = {"_target_": "os.system", "command": f"touch {tmp_path / 'ran'}"}
    run.config_file.write_text(yaml.safe_dump(config))
    refused = seglab("predict", run.folder, tmp_path / "i.png").err
    assert "model._target_='os.system': in the config of a run folder, accepted is seglab.models." in refused
    assert not (tmp_path / "ran").exists()


def test_help_names_every_command_with_an_example_and_every_exit_code(seglab) -> None:
    code, shown, _ = seglab("--help")
    assert code == 0 and all(f"  {code:<4} {meaning}\n" in shown for code, meaning in cli.EXIT_CODES.items())
    for name, command in cli.COMMANDS.items():
        assert any(line.split() == [name, *command.help.split()] for line in shown.splitlines())
        assert seglab(name, "--help").out.rstrip().endswith(f"example: {command.example}")
        assert command.example.startswith(f"seglab {name} ")


@pytest.mark.parametrize("arguments", [(), ("grids",), ("grid",), ("grid", "a", "b"), ("predict", "r", "i", "--top")])
def test_a_wrong_command_line(seglab, arguments: tuple[str, ...]) -> None:
    ended = seglab(*arguments)
    assert ended.code == 2 and ended.err.startswith("usage: seglab")


def test_ends_a_shell_understands(seglab, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = process("grid", run.folder.parent, stdout=writer)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (cli.CLOSED, "")

    def slow(_) -> None:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell began with `&`
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)

    monkeypatch.setitem(cli.COMMANDS, "slow", cli.Command(slow, "takes long", "seglab slow now"))
    assert seglab("slow") == (cli.INTERRUPTED, "", "seglab: stopped by Ctrl-C\n")
    monkeypatch.setitem(cli.COMMANDS, "slow", cli.Command(lambda _: 3, "finds faults", "seglab slow now"))
    assert seglab("slow").code == 3


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    words = {}
    for line in ("seglab ", "seglab predict --ch", "seglab predict run image --checkpoint "):
        asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
        asked |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "words")}
        process(env={**os.environ, **asked})
        words[line] = set((tmp_path / "words").read_text().split())
    assert words.pop("seglab ") >= cli.COMMANDS.keys()
    assert list(words.values()) == [{"--checkpoint"}, {"last", "best"}]


def test_help_waits_for_no_library() -> None:
    seen = "import sys, seglab.cli as c; c.parser(c.COMMANDS).format_help(); print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", seen], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ended.stderr.split()}
    assert "argparse" in loaded and not loaded & {"torch", "numpy", "PIL", "yaml", "tqdm", "argcomplete", "jinja2"}
