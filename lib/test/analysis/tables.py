"""Scores as tables: plain text for the terminal; CSV, LaTeX and JSON for other programs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas

from ...utils.files import ruled_table, write_text
from .scores import CURVES, TrackerScores
from .selection import Groups

# Key of `TrackerScores.scores` to title of a column.
COLUMNS = {
    **{"auc": "AUC", "op50": "OP50", "op75": "OP75", "precision": "Prec", "norm_precision": "NormPrec"},
    **{"ao": "AO", "sr50": "SR0.50", "sr75": "SR0.75", "fps": "FPS"},
}


def format_score(value: float) -> str:
    """One decimal; `-` for nan."""
    return "-" if np.isnan(value) else f"{value:.1f}"


def score_table(trackers: Sequence[TrackerScores]) -> pandas.DataFrame:
    """Texts, a row a tracker, highest AUC first; an asterisk where the means are not over the whole test set."""
    rows = {
        t.label: {title: format_score(t.scores[key]) for key, title in COLUMNS.items()}
        | {"Sequences": f"{len(t.table)}/{t.expected}{'*' if t.missing else ''}"}
        for t in sorted(trackers, key=lambda t: -t.scores["auc"])
    }
    return pandas.DataFrame(rows).T.rename_axis("Tracker", axis=1)


def score_notes(trackers: Sequence[TrackerScores]) -> list[str]:
    """One line for each missing, short or long result, and for the asterisk where there is one."""
    notes = [note for tracker in trackers for note in tracker.notes]
    if any(tracker.missing for tracker in trackers):
        notes.append("* means are over the sequences done; rows over different sequences do not compare")
    return notes


def group_table(trackers: Sequence[TrackerScores], groups: Groups) -> pandas.DataFrame:
    """Texts: AUC in percent of each group, a column a tracker; an asterisk where sequences are missing."""
    rows = {}
    for (kind, group), names in groups.items():
        parts = [tracker.only(names) for tracker in trackers]
        aucs = {part.label: format_score(part.scores["auc"]) + "*" * bool(part.missing) for part in parts}
        rows[f"{kind} {group} ({len(names)})"] = aucs
    # No sequence of a group may have a result.
    return pandas.DataFrame(rows).T.replace("-*", "-").rename_axis("AUC by group", axis=1)


def sequence_aucs(trackers: Sequence[TrackerScores]) -> pandas.DataFrame:
    """AUC in percent, a row a sequence and a column a tracker; nan without a result; lowest mean first."""
    frame = pandas.concat({t.label: t.table["score", "auc"] for t in trackers}, axis=1)
    return frame.loc[frame.mean(axis=1).sort_values(kind="stable").index].rename_axis("AUC by sequence", axis=1)


def all_tables(trackers: Sequence[TrackerScores], groups: Groups) -> dict[str, pandas.DataFrame]:
    """Tables of texts: `scores`, `groups` (may be empty) and `sequences`."""
    aucs = sequence_aucs(trackers).map(format_score)
    return {"scores": score_table(trackers), "groups": group_table(trackers, groups), "sequences": aucs}


def plain_text(table: pandas.DataFrame) -> str:
    """A table of texts for the terminal, with the name of its columns above its row's names."""
    return ruled_table([[table.columns.name, *table.columns], *table.reset_index().to_numpy().tolist()])


def best_cells(table: pandas.DataFrame, axis: int) -> pandas.DataFrame:
    """True at the best tracker's number of a table of texts, whose rows (axis 0) or columns (axis 1) are trackers.

    A number with an asterisk, or in a row of `score_table` with one, does not compare with others.
    """
    numbers = table.apply(pandas.to_numeric, errors="coerce")
    if axis == 0:
        numbers[table["Sequences"].str.endswith("*")] = np.nan
    best = numbers.eq(numbers.max(axis=axis), axis=1 - axis)
    return best.mul(numbers.count(axis=axis) > 1, axis=1 - axis)


def latex_table(table: pandas.DataFrame, axis: int) -> str:
    """A table of texts in LaTeX (booktabs), with `best_cells` in bold; without the numbers of sequences."""
    bold = best_cells(table, axis).replace({True: "textbf:--rwrap;", False: ""})
    if axis == 0:
        table, bold = table.drop(columns="Sequences"), bold.drop(columns="Sequences")
    style = table.style.format(escape="latex").format_index(axis=0, escape="latex").format_index(axis=1, escape="latex")
    style = style.apply(lambda _: bold, axis=None)
    return style.to_latex(hrules=True, column_format="l" + "r" * len(table.columns))


def save_tables(output_dir: Path, trackers: Sequence[TrackerScores], groups: Groups) -> None:
    """Write `scores.csv` (a row a tracker), `sequences.csv` (a row a sequence and tracker) and, where there are groups,
    `groups.csv` (a row a group and tracker). A missing number is an empty field.
    """
    totals = [{"tracker": t.label, "sequences": len(t.table), "expected": t.expected} | t.scores for t in trackers]
    parts = [
        {"kind": kind, "group": group, "tracker": part.label, "sequences": len(part.table)} | part.scores
        for (kind, group), names in groups.items()
        for part in (tracker.only(names) for tracker in trackers)
    ]
    scores = {t.label: t.table["score"].reindex([*t.table.index, *t.missing]) for t in trackers}
    sequences = pandas.concat(scores, names=["tracker", "sequence"]).reset_index()
    for name, table in {"scores": totals, "sequences": sequences, "groups": parts}.items():
        if len(table):
            text = pandas.DataFrame(table).to_csv(index=False, float_format="%.4f", lineterminator="\n")
            write_text(output_dir / f"{name}.csv", text)


def save_json(path: Path, dataset: str, trackers: Sequence[TrackerScores], groups: Groups) -> None:
    """Write all numbers of all trackers, by group and by sequence, too; nan becomes null."""
    content = {
        "dataset": dataset,
        "thresholds": CURVES,
        "groups": [{"kind": kind, "name": name, "sequences": members} for (kind, name), members in groups.items()],
        "trackers": {
            tracker.label: {
                "sequences_expected": tracker.expected,
                "sequences_done": len(tracker.table),
                "missing": tracker.missing,
                "notes": tracker.notes,
                "scores": tracker.scores,
                "curves": tracker.curves,
                "groups": {" ".join(key): tracker.only(names).scores for key, names in groups.items()},
                "sequences": tracker.table["score"].to_dict("index"),
            }
            for tracker in trackers
        },
    }
    write_text(path, pandas.Series(content).to_json(indent=1, double_precision=6, force_ascii=False) + "\n")
