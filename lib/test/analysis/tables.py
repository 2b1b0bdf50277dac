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
        parts = {t.label: t.only(names) for t in trackers}
        rows[f"{kind} {group} ({len(names)})"] = {
            label: format_score(part.scores["auc"]) + "*" * bool(part.missing) if part else "-"
            for label, part in parts.items()
        }
    return pandas.DataFrame(rows).T.rename_axis("AUC by group", axis=1)


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


def latex_table(table: pandas.DataFrame, axis: int) -> str:
    """A table of texts in LaTeX (booktabs), bold the highest number of each column (axis 0) or each row (axis 1)."""

    def best(texts: pandas.Series) -> list[str]:
        numbers = pandas.to_numeric(texts.str.rstrip("*"), errors="coerce")
        return ["textbf:--rwrap;" if number == numbers.max() else "" for number in numbers]

    whole = table.reset_index(names=table.columns.name).rename_axis(None, axis=1)
    style = whole.style.hide(axis="index").format(escape="latex").format_index(axis=1, escape="latex")
    style = style.apply(best, axis=axis, subset=list(table.columns))
    return style.to_latex(hrules=True, column_format="l" + "r" * len(table.columns))


def save_tables(output_dir: Path, trackers: Sequence[TrackerScores], groups: Groups) -> None:
    """Write `scores.csv` and `scores.tex` (a row a tracker), `sequences.csv` (a row a sequence and tracker) and, where
    there are groups, `groups.csv` (a row a group and tracker). A missing number is an empty field.
    """
    totals = [{"tracker": t.label, "sequences": len(t.table), "expected": t.expected} | t.scores for t in trackers]
    _write_csv(output_dir / "scores.csv", totals)
    write_text(output_dir / "scores.tex", latex_table(score_table(trackers).drop(columns="Sequences"), axis=0))
    sequences = [
        {"sequence": name, "tracker": t.label}
        | numbers.get(name, {})
        | {"note": "no result" if name in t.missing else t.remarks.get(name, "")}
        for t in trackers
        for numbers in [t.table["score"].to_dict("index")]
        for name in [*numbers, *t.missing]
    ]
    _write_csv(output_dir / "sequences.csv", sequences)
    parts = [
        {"kind": kind, "group": group, "tracker": t.label, "sequences": len(part.table)} | part.scores
        for (kind, group), names in groups.items()
        for t in trackers
        if (part := t.only(names))
    ]
    if parts:
        _write_csv(output_dir / "groups.csv", parts)


def _write_csv(path: Path, rows: list[dict]) -> None:
    write_text(path, pandas.DataFrame(rows).to_csv(index=False, float_format="%.4f", lineterminator="\n"))


def save_json(path: Path, dataset: str, trackers: Sequence[TrackerScores], groups: Groups) -> None:
    """Write all numbers of all trackers, by group and by sequence, too; nan becomes null."""
    content = {
        "dataset": dataset,
        "thresholds": CURVES,
        "groups": [{"kind": kind, "name": name, "sequences": members} for (kind, name), members in groups.items()],
        "trackers": {t.label: _numbers(t, groups) for t in trackers},
    }
    write_text(path, pandas.Series(content).to_json(indent=1, double_precision=6, force_ascii=False) + "\n")


def _numbers(tracker: TrackerScores, groups: Groups) -> dict[str, object]:
    parts = {" ".join(key): tracker.only(names) for key, names in groups.items()}
    curves = {key: tracker.table[key].to_numpy() for key in CURVES}
    scores = tracker.table["score"].to_dict("index")
    return {
        "sequences_expected": tracker.expected,
        "sequences_done": len(tracker.table),
        "missing": tracker.missing,
        "notes": tracker.notes,
        "scores": tracker.scores,
        "curves": tracker.curves,
        "groups": {name: part.scores for name, part in parts.items() if part},
        "sequences": {
            name: {key: values[i] for key, values in curves.items()} | scores[name] for i, name in enumerate(scores)
        },
    }
