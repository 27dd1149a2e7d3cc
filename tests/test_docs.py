"""The README and the pages of docs/ are true."""

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import dropwhile, zip_longest
from pathlib import Path

import pytest
import test_losses as losses
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

import seglab.losses
from seglab.cli import COMMANDS, EXIT_CODES, parser
from seglab.config.compose import composed
from seglab.config.trainer import ACCEPTED
from seglab.run.folder import runs_of
from tests.conftest import ROOT

PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
ALL = "\n".join(PAGES.values())
CONF = ROOT / "conf"
FENCE = r"^```(\w*)\n(.*?)^```$"
OF_A_READER = ("x", "mine", "mean_absolute_error", "smp_dice")
"""Names of the files that a reader makes."""
every_page = pytest.mark.parametrize("page", PAGES)


def shell_lines(text: str) -> Iterator[list[str]]:
    """The words of each line of the fenced blocks of shell, without comments and variables set before a command."""
    for kind, block in re.findall(FENCE, text, re.M | re.S):
        if kind in ("", "bash", "sh", "shell", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                words = [*dropwhile(lambda word: "=" in word, shlex.split(line, comments=True))]
                if words:
                    yield words


COMMAND_LINES = [(page, words) for page, text in PAGES.items() for words in shell_lines(text)]


def lines_of(*beginning: str) -> pytest.MarkDecorator:
    """A test for each line of the pages that begins so; a line stands once however often it is shown."""
    found = {
        shlex.join(words): pytest.param(words, id=f"{page}: {shlex.join(words)}")
        for page, words in COMMAND_LINES
        if words[: len(beginning)] == list(beginning)
    }
    return pytest.mark.parametrize("words", found.values())


def combinations(overrides: list[str]) -> Iterator[list[str]]:
    """Lists of overrides without a sweep, which together hold each value of each sweep."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    sweeps = {
        text: [f"{p.get_key_element()}={value}" for value in p.sweep_string_iterator()]
        for text, p in zip(overrides, parsed, strict=True)
        if p.is_sweep_override()
    }
    for values in zip_longest(*sweeps.values()) if sweeps else [()]:
        chosen = {text: value or sweeps[text][0] for text, value in zip(sweeps, values, strict=True)}
        yield [chosen.get(text, text) for text in overrides]


@pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher/\w+' is validated against ConfigStore schema")  # Hydra 1.3
@lines_of("python", "train.py")
def test_training_commands_compose(words: list[str]) -> None:
    options = [word for word in words[2:] if "=" not in word]
    assert set(options) <= {"-m", "--help", "--cfg", "job"}
    of_a_reader = {f"{group}={name}" for group in ("loss", "model", "data") for name in OF_A_READER}
    found = list(combinations([word for word in words[2:] if "=" in word and word not in of_a_reader]))
    assert len(found) == 1 or "-m" in options
    for overrides in found:
        composed(overrides)


@lines_of("seglab")
def test_seglab_commands_parse(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if "--help" in words:
        with pytest.raises(SystemExit) as ended:
            parser(COMMANDS).parse_args(words[1:])
        assert ended.value.code == 0 and "usage: seglab" in capsys.readouterr().out
        return
    parsed, rest = parser(COMMANDS).parse_known_args(words[1:])
    overrides = [*getattr(parsed, "overrides", []), *rest]
    assert not rest or hasattr(parsed, "overrides")
    assert all("=" in word and not word.startswith("-") for word in overrides)
    if overrides:
        composed(["data=folder", *overrides])


def test_make_targets_extras_and_modules_are_there() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page, words in COMMAND_LINES:
        if words[0] == "make":
            assert set(words[1:]) <= targets, page
        for extra in re.findall(r"\.\[(.*?)\]", " ".join(words)):
            assert set(extra.split(",")) <= set(extras), page
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]), page


def block(path: str) -> str:
    """The fenced block that follows a path."""
    (found,) = re.findall(rf"^[^\n]*`{path}`[^\n]*:\n\n```\w+\n(.*?)^```$", ALL, re.M | re.S)
    return found


def test_the_example_loss_is_two_files(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, path in {"code": "seglab/losses/", "conf/loss": "conf/loss/"}.items():
        name = f"mean_absolute_error.{'py' if folder == 'code' else 'yaml'}"
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(block(path + name))
    monkeypatch.setattr(seglab.losses, "__path__", [*seglab.losses.__path__, str(tmp_path / "code")])
    from seglab.losses.mean_absolute_error import MeanAbsoluteError  # type: ignore[import-not-found]

    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]]).log1p().T.reshape(1, 2, 1, 2)  # probabilities 3/4, 1/4 and 1/2, 1/2
    target = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 2)  # the second pixel is void
    assert float(MeanAbsoluteError()(logits, target)) == pytest.approx(1 / 4)
    assert float(MeanAbsoluteError()(logits, 0 * target)) == 0
    (row,) = eval(f"{{{block('tests/test_losses.py')}}}", vars(losses)).values()
    assert float(MeanAbsoluteError()(*losses.two_pixels())) == pytest.approx(row.by_hand)
    logits, target, _ = losses.example()
    slow = row.reference(logits.double().numpy(), target.double().numpy())
    assert float(MeanAbsoluteError()(logits, target)) == pytest.approx(slow, rel=1e-5)
    search = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    assert train("loss=mean_absolute_error", search, "epochs=1", f"output_dir={tmp_path / 'out'}")[0] == ""
    (run,) = runs_of(tmp_path / "out" / "default")
    assert run.folder.name.startswith("unet-mean_absolute_error-e1-s0-")


@pytest.mark.parametrize("group", sorted({str(p.parent.relative_to(CONF)) for p in CONF.rglob("*/*.yaml")}))
def test_every_choice_is_named(group: str) -> None:
    rows = re.findall(rf"^\| `{group}=` \|.*$", ALL, re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    named |= {name for names in re.findall(rf"\b{group}=([\w,]+)", ALL) for name in names.split(",")}
    assert {path.stem for path in (CONF / group).glob("*.yaml")} <= named


def test_every_setting_is_named() -> None:
    keys = yaml.safe_load((CONF / "train.yaml").read_text()).keys() - {"defaults", "hydra"}
    assert {key for key in keys if not re.search(rf"(?<![\w.]){key}(=|\.\w+=)", ALL)} == set()


def keys_of(node: object, prefix: str) -> set[str]:
    """All keys of a config file, joined by dots."""
    if not isinstance(node, dict):
        return {prefix}
    return {prefix}.union(*(keys_of(value, f"{prefix}.{key}") for key, value in node.items()))


@every_page
def test_settings_that_it_names_are_there(page: str) -> None:
    files = {path: str(path.parent.relative_to(CONF)).replace("/", ".") for path in CONF.rglob("*/*.yaml")}
    known = set().union(*(keys_of(yaml.safe_load(path.read_text()), group) for path, group in files.items()))
    known |= keys_of(yaml.safe_load((CONF / "train.yaml").read_text())["optimizer"], "optimizer")
    known |= {f"trainer.{key}" for key in ACCEPTED} | {"optimizer.weight_decay"}
    groups = "|".join(re.escape(group) for group in {*files.values(), "optimizer"})
    code = " ".join(re.findall(r"`([^`\n]+)`", PAGES[page]))
    assert set(re.findall(rf"(?<![\w./+-])((?:{groups})(?:\.\w+)+)\b", code)) - known == set()


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(FENCE, "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        path, _, anchor = link.partition("#")
        if not path.startswith(("http://", "https://")):
            target = folder / path if path else folder / page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text()), link


@every_page
def test_files_and_modules_that_it_names_are_there(page: str) -> None:
    for path in re.findall(r"`((?:conf|seglab|tests|notebooks|hydra_plugins)/[\w/.-]*)`", PAGES[page]):
        assert Path(path).stem in OF_A_READER or (ROOT / path).exists(), path
    for name in re.findall(r"`(seglab(?:\.\w+)+)`", PAGES[page]):
        assert importlib.util.find_spec(name), name


def test_every_exit_code_is_named() -> None:
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in ALL.replace("\\|", "|")


def test_readme_is_short_and_leads_to_every_page() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 130
    for page in PAGES:
        assert page == "README.md" or f"](docs/{page}" in PAGES["README.md"], page


@every_page
def test_no_line_is_long_outside_tables_and_code(page: str) -> None:
    prose = re.sub(FENCE, "", PAGES[page], flags=re.M | re.S).splitlines()
    assert [line for line in prose if len(line) > 130 and not line.startswith("|")] == []
