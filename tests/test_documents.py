"""The pages: their links lead somewhere, and their commands exist with the options that they name."""

import contextlib
import io
import re
import runpy
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from lib import commands
from lib.utils.workspace import REPOSITORY

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
    scripts = [f"tracking/{path.name}" for path in (REPOSITORY / "tracking").glob("*.py")]
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


_USES = _uses()


@pytest.mark.parametrize("command", sorted(_USES))
def test_commands_exist_with_their_options(command, monkeypatch):
    options, is_stark, output = _USES[command], command.startswith("stark "), io.StringIO()
    assert is_stark or (REPOSITORY / command).is_file(), f"{command} is missing; named in {options['--help']}"
    if command.endswith(".sh"):
        return
    monkeypatch.setattr(sys, "argv", [*(command.split() if is_stark else [command]), "--help"])
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as ended:
        commands.main() if is_stark else runpy.run_path(str(REPOSITORY / command), run_name="__main__")
    assert not ended.value.code, f"{command} --help fails; named in {options['--help']}"
    known = {"--help", *re.findall(r"--[a-zA-Z][\w-]*", output.getvalue())}
    assert not {option: pages for option, pages in options.items() if option not in known}
