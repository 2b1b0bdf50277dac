"""The pages: their links lead somewhere, their commands exist with the options that they name, and those in blocks run.

A comment `# not run here` stands behind a command, or on a line before the commands up to the next empty line.
"""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from lib import commands
from lib.config import load_config
from lib.models import build_model
from lib.utils.checkpoint import save_checkpoint
from lib.utils.workspace import REPOSITORY
from tests.data.made_sets import write_sequence
from tests.golden.fill import fill
from tests.test.web.made_clips import scene, write_clip

_SCRIPT = re.compile(
    r"(?:python3?|torchrun|bash)\s(?:.*\s)?((?:tracking|benchmarks|lib|tests)/[\w/]+\.py|[\w/]+\.sh)\b(.*)"
)
_STARK = re.compile(r"stark ([a-z][a-z ]*)(.*)")


def page_names() -> list[str]:
    """The pages of the repository, as paths in it; none without git."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        return []
    command = ["git", "-C", REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (REPOSITORY / name).is_file()]


def page_parts(page: Path) -> Iterator[tuple[bool, str]]:
    """The lines of a page, with whether they are code."""
    fenced, indented, before = False, False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        indented = not fenced and line.startswith("    ") and (indented or not before.strip())
        if not fence:
            yield fenced or indented, line
        before = line


def code_lines(page: Path) -> list[str]:
    """The lines of a page's blocks of code, each command as one line."""
    text = "\n".join(line if code else "\n" for code, line in page_parts(page))
    return re.sub(r"\s*\\\n\s*|\n\s*(?=\[?--)", " ", text).splitlines()


def _prose(page: Path) -> str:
    """A page without its blocks of code."""
    return "\n".join("" if code else line for code, line in page_parts(page))


def _anchors(page: Path) -> set[str]:
    """What a link to a place in a page may name; headings become anchors as on GitHub."""
    headings = re.findall(r"(?m)^#+\s+(.*?)\s*$", _prose(page))
    return {re.sub(r"\]\([^)]*\)|[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands(page: Path) -> Iterator[str]:
    """The commands in a page's blocks of code, and those between backticks."""
    yield from (line.split("  #")[0].strip() for line in code_lines(page))
    yield from (" ".join(words.split()) for words in re.findall(r"`([^`]+)`", _prose(page)))


def _uses() -> dict[str, dict[str, set[str]]]:
    """Scripts and commands of `stark`, all of them -> the options that the pages give them -> the pages."""
    uses: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    scripts = [f"tracking/{path.name}" for path in (REPOSITORY / "tracking").glob("[!_]*.py")]
    for name in (*scripts, *(f"stark {name}" for name in commands.COMMANDS)):
        uses[name]["--help"] = set()
    for page in page_names():
        for command in _commands(REPOSITORY / page):
            found = _SCRIPT.search(command) or _STARK.match(command)
            if found:
                name, rest = found[1].strip(), re.split(r"\s[|;&]", found[2])[0]
                if found.re is _STARK:
                    words = name.split()
                    name = " ".join(["stark", *words[: 2 if " ".join(words[:2]) in commands.COMMANDS else 1]])
                for option in ("--help", *re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", rest)):
                    uses[name][option].add(page)
    return uses


@pytest.mark.parametrize("name", page_names())
def test_links_lead_somewhere(name):
    page, broken = REPOSITORY / name, []
    for target in re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", re.sub(r"`[^`]*`", "code", _prose(page))):
        path, _, anchor = unquote(target).partition("#")
        place = (page.parent / path).resolve() if path else page
        leads = place.exists() and (not anchor or place.suffix != ".md" or anchor in _anchors(place))
        if not leads and not re.match(r"[a-z]+:", target):
            broken.append(target)
    assert not broken


def run(words: list[str], monkeypatch) -> int:
    """Run a command, `stark` or a script with arguments, in this process; gives its exit status."""
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.syspath_prepend(REPOSITORY / "tracking")  # as Python does
    with pytest.raises(SystemExit) as ended:
        commands.main() if words[0] == "stark" else runpy.run_path(str(REPOSITORY / words[0]), run_name="__main__")
    return ended.value.code or 0


_USES = _uses()


@pytest.mark.parametrize("command", sorted(_USES))
def test_commands_exist_with_their_options(command, monkeypatch, capsys):
    options, words = _USES[command], command.split() if command.startswith("stark ") else [command]
    assert words[0] == "stark" or (REPOSITORY / command).is_file(), f"{command} is missing: {options['--help']}"
    if not command.endswith(".sh"):
        assert run([*words, "--help"], monkeypatch) == 0
        said = capsys.readouterr().out
        known = re.findall(r"--[a-zA-Z][\w-]*", said)
        assert not {option: pages for option, pages in options.items() if option not in ("--help", *known)}
        name = re.search(r'run_script\("(.*)"\)', (REPOSITORY / command).read_text()) if len(words) == 1 else None
        if name and name[1] in commands.COMMANDS:
            assert run(["stark", *name[1].split(), "--help"], monkeypatch) == 0
            same = re.sub(r"python \S+\.py", f"stark {name[1]}", said)
            assert capsys.readouterr().out.split() == same.split()


# Commands that run otherwise.
ELSEWHERE = (
    r"bash (tracking/quickstart|tests/run)\.sh|install_pytorch17\.sh --lock",  # by hand, before each release
    r"pip install \.",  # tests/test_install.py
    r"bash install_pytorch17\.sh &&",  # tests/test_install.py
    r"stark web|tracking/web_demo\.py",  # tests/test/web
    r"bash external/vot20\w*/[\w/]+/exp\.sh",  # tests/test/vot20/test_toolkit.py
    r"tracking/ORT_lightning",  # tests/test/test_profiling.py
)
OURS = re.compile(r"(?:\w+=\S+ )?(?:(?:python3?|bash|torchrun)\s(?:.*\s)?[\w/]+\.(?:py|sh)\b|stark |pip |docker )")
# What a command gets beside the page's words: trainings are checked and not run, measurements are short.
PROFILES = ("profile_model", "profile_model_lightning_X_trt")
MORE = {"train": ["--device", "cpu", "--check"], **dict.fromkeys(PROFILES, ["--runs", "1", "--warmup", "0"])}


def shown(page: str) -> Iterator[str]:
    """The commands of a page's blocks of code; those that are marked as not run are left out."""
    marked = False
    for line in code_lines(REPOSITORY / page):
        command, _, comment = line.strip().partition("#")
        marked = bool(line.strip()) and (marked or (not command and "not run here" in comment))
        if OURS.match(command) and not marked and "not run here" not in comment:
            yield command.strip()


COMMANDS = {page: list(dict.fromkeys(shown(page))) for page in page_names()}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A checkpoint of STARK-ST that learned nothing, and the folder of exported graphs."""
    folder = tmp_path_factory.mktemp("shared")
    net = fill(build_model("stark_st2", load_config("stark_st2", "baseline")))
    save_checkpoint(folder / "STARKST_ep0050.pth.tar", {"net": net.state_dict()})
    (folder / "onnx").mkdir()
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch, shared):
    """A working directory with all that the pages name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STARK_SAVE_DIR", str(tmp_path))
    Path("experiments").symlink_to(REPOSITORY / "experiments")
    Path("checkpoints").mkdir()
    for path in (Path("STARKST_ep0050.pth.tar"), Path("checkpoints/onnx")):
        path.symlink_to(shared / path.name)
    write_sequence(Path("path/to/mine"), "a", count=24)
    for name in ("sequences", "test", "held_out"):
        Path("path/to", name).symlink_to(tmp_path / "path/to/mine")
    for name in ("my.mp4", "clip.mp4"):
        write_clip(Path(name), (scene(i, (320, 240)) for i in range(12)))
    boxes = "".join(f'<box frame="{i}" xtl="40" ytl="60" xbr="80" ybr="99" outside="0"/>' for i in range(12))
    for file in (Path("annotations.xml"), Path("task/annotations.xml")):
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'<annotations><meta/><track id="0" label="car">{boxes}</track></annotations>')
    return tmp_path


@pytest.mark.parametrize("page", [page for page, listed in COMMANDS.items() if listed])
def test_commands_run(page, place, monkeypatch):
    for command in COMMANDS[page]:
        if re.search("|".join(ELSEWHERE), command):
            continue
        words = [re.sub(r"(?<![\w.])/path/", f"{place}/path/", word) for word in shlex.split(command)]
        words = words if words[0] == "stark" else words[words.index("python") + 1 :]
        name = words[1] if words[0] == "stark" else Path(words[0]).stem
        if "--checkpoints" in words:  # what the training before it, which is only checked here, leaves
            best = Path(words[words.index("--checkpoints") + 1])
            best.parent.mkdir(parents=True, exist_ok=True)
            best.symlink_to(REPOSITORY / "experiments/stark_lightning_X_trt/mini.pth.tar")
        assert run([*words, *MORE.get(name, [])], monkeypatch) == 0, command
