"""The pages: their links lead somewhere, and their commands exist with the options that they name."""

import contextlib
import io
import re
import runpy
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from lib import commands
from lib.utils.workspace import REPOSITORY

# Before a block of code: its commands are not checked.
_UNCHECKED = "<!-- not run here -->"
_SCRIPT = re.compile(r"(?:python3?|torchrun)\s(?:.*\s)?((?:tracking|benchmarks|lib|tests)/[\w/]+\.py)\b(.*)")
_BASH = re.compile(r"bash ([\w/]+\.sh)()")
_STARK = re.compile(r"stark ([a-z][a-z ]*)(.*)")


def page_names() -> list[str]:
    """The pages of the repository, as paths in it; none without git."""
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        return []
    command = ["git", "-C", REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (REPOSITORY / name).is_file()]


def page_parts(page: Path) -> Iterator[tuple[bool, str]]:
    """The lines of a page, with whether they are code; unchecked code is left out."""
    fence, indented, unchecked, before = "", False, False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        mark = re.match(r"\s*(```+)", line)
        indented = not fence and line.startswith("    ") and (indented or not before.strip())
        if not fence and not mark and not indented and line.strip():
            unchecked = line.strip() == _UNCHECKED
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        elif not ((fence or indented) and unchecked):
            yield bool(fence or indented), line
        before = line


def code_lines(page: Path) -> list[str]:
    """The lines of a page's blocks of code, each command as one line."""
    text = "\n".join(line if code else "\n" for code, line in page_parts(page))
    return re.sub(r"\s*\\\n\s*|\n\s*(?=\[?--)", " ", text).splitlines()


def _text(page: Path) -> str:
    """A page without code."""
    return re.sub(r"`[^`]*`", "code", "\n".join("" if code else line for code, line in page_parts(page)))


def _anchors(page: Path) -> set[str]:
    """What a link to a place in a page may name; headings become anchors as on GitHub."""
    seen, anchors = Counter(), set()
    for code, line in page_parts(page):
        heading = None if code else re.match(r"#+\s+(.*?)\s*$", line)
        if heading:
            anchor = re.sub(r"\]\([^)]*\)|[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
    return anchors | set(re.findall(r'<a (?:id|name)="([^"]+)"', _text(page)))


def _commands(page: Path) -> Iterator[str]:
    """The commands in a page's blocks of code, and those between backticks."""
    yield from (line.split("  #")[0].strip() for line in code_lines(page))
    prose = "\n".join("" if code else line for code, line in page_parts(page))
    yield from (" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose))


def _uses() -> dict[str, dict[str, set[str]]]:
    """Scripts and commands of `stark`, all of them -> the options that the pages give them -> the pages."""
    uses: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    scripts = [f"tracking/{path.name}" for path in (REPOSITORY / "tracking").glob("*.py")]
    for name in (*scripts, *(f"stark {name}" for name in commands.COMMANDS)):
        uses[name]["--help"] = set()
    for page in page_names():
        for command in _commands(REPOSITORY / page):
            for pattern in (_SCRIPT, _BASH, _STARK):
                found = pattern.match(command) if pattern is _STARK else pattern.search(command)
                if not found:
                    continue
                name, rest = found[1].strip(), re.split(r"\s[|;&]", found[2])[0]
                if pattern is _STARK:
                    words = name.split()
                    name = " ".join(["stark", *words[: 2 if " ".join(words[:2]) in commands.COMMANDS else 1]])
                for option in ("--help", *re.findall(r"(?<![\w-])--[a-zA-Z][\w-]*", rest)):
                    uses[name][option].add(page)
    return uses


@pytest.mark.parametrize("name", page_names())
def test_links_lead_somewhere(name):
    page, broken = REPOSITORY / name, []
    for target in re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", _text(page)):
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
