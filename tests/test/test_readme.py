"""What the README shows of Python runs as it stands there."""

import re

from lib.utils.workspace import REPOSITORY


def test_the_example_tracks_a_sample(capsys, monkeypatch):
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"\*\*From Python\.\*\*\n\n```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in example.splitlines() if line]) == 10
    monkeypatch.chdir(REPOSITORY)
    exec(example, {})
    lines = capsys.readouterr().out.splitlines()[-119:]
    assert len(lines) == 119
    x, y, w, h, confidence = (float(value) for value in re.sub(r"[\[\],]", " ", lines[-1]).split())
    assert 0.5 < confidence <= 1
    assert 0 < x < 100
    assert 0 <= y < 60
    assert 30 < w < 100
    assert 50 < h < 140
