"""Progress where there is no terminal: a line each tenth, so that a log stays short."""

from lib.utils.progress import progress_bar


def test_without_a_terminal_each_tenth_is_a_line(capsys):
    for total, done, lines in ((1000, 0, 11), (7, 0, 8), (1000, 500, 6)):
        with progress_bar("train (3)", "batches", total=total, done=done, leave=False) as bar:
            for _ in range(total - done):
                bar.update()
        printed = capsys.readouterr().err.splitlines()
        assert len(printed) == lines
        assert printed[0].startswith(f"train (3): {done} of {total} batches, {100 * done // total} % (00:00 passed")
        assert printed[-1].startswith(f"train (3): {total} of {total} batches, 100 % (")
    assert list(progress_bar("packing", "files", range(30))) == [*range(30)]
    assert len(capsys.readouterr().err.splitlines()) == 11
    assert list(progress_bar("short", "files", range(30), delay=60)) == [*range(30)]
    assert list(progress_bar("quiet", "files", range(3), disable=True)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
