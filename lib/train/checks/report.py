"""What a check found, as a table to read and as an error to stop with."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

from lib.utils.errors import UserError

WIDTH = 120
_LONGEST_SUBJECT = 34
_GAP = "  "


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what it is, in a few words.
        state: `ok`; `note`, worth knowing; or `problem`, training cannot go on.
        detail: what was seen, and where.
        remedy: what can be done about it; empty where the detail says so, or nothing needs to be done.
    """

    subject: str
    state: str
    detail: str
    remedy: str = ""

    @property
    def text(self) -> str:
        """Detail and remedy."""
        return f"{self.detail}: {self.remedy}" if self.remedy else self.detail


def ok(subject: str, detail: str) -> Finding:
    """A finding that all is well."""
    return Finding(subject, "ok", detail)


def note(subject: str, detail: str, remedy: str = "") -> Finding:
    """A finding that does not keep from training."""
    return Finding(subject, "note", detail, remedy)


def problem(subject: str, detail: str, remedy: str = "") -> Finding:
    """A finding that does."""
    return Finding(subject, "problem", detail, remedy)


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they are read best."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """Those that keep from training."""
        return [finding for finding in self.findings if finding.state == "problem"]

    def table(self) -> str:
        """The findings as lines of at most `WIDTH` characters, a long path aside; the last one counts problems.

        What to do about problems is left to the error of `require`.
        """
        subjects = [_shortened(finding.subject) for finding in self.findings]
        widths = (max(map(len, [*subjects, "what"])), len("problem"))
        lines = [*_row("what", "state", "detail", widths), "-" * WIDTH]
        before = None
        for subject, finding in zip(subjects, self.findings, strict=True):
            text = finding.detail if finding.state == "problem" else finding.text
            lines += _row("" if finding.subject == before else subject, finding.state, text, widths)
            before = finding.subject
        notes = sum(finding.state == "note" for finding in self.findings)
        counts = f"{_count(len(self.problems), 'problem')}, {_count(notes, 'note')}"
        return "\n".join([*lines, "-" * WIDTH, counts])

    def require(self) -> None:
        """Stop where there are problems.

        Raises:
            UserError: all of them: how many in the first line, then a line each, with what to do about it.
        """
        if self.problems:
            lines = [f"- {finding.subject}: {finding.text}" for finding in self.problems]
            raise UserError("\n".join([f"{_count(len(lines), 'problem')} to solve before training:", *lines]))


def named(count: int, texts: list[str], most: int = 3) -> str:
    """The first of some texts, and how many more there are."""
    more = [f"and {count - most:,} more"] if count > most else []
    return "; ".join([*texts[:most], *more])


def _row(subject: str, state: str, text: str, widths: tuple[int, int]) -> Iterator[str]:
    """A finding's lines; the text goes on below itself."""
    first = f"{subject:{widths[0]}}{_GAP}{state:{widths[1]}}{_GAP}"
    yield from textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _shortened(subject: str) -> str:
    """A subject that fits its column: of a path in it the end tells most."""
    if len(subject) <= _LONGEST_SUBJECT:
        return subject
    head, _, path = subject.partition(":")
    head = f"{head}:…"[: _LONGEST_SUBJECT // 2]
    tail = path[-(_LONGEST_SUBJECT - len(head)) :]
    return head + tail[max(tail.find("/"), 0) :]


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
