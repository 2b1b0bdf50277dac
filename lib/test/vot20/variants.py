"""What is entered into which VOT challenge. A new entry here and a script of its name make a new tracker."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Challenge:
    """One challenge of the toolkit.

    Attributes:
        title: for readers.
        folder: of its workspaces, in `external/`.
        stack: its experiments, by the toolkit's name or as a file's path from the workspace.
        sequences: folder of its sequences in `data/`, which all its workspaces share.
        answer: kind of the regions that trackers answer, `mask` or `rectangle`.
        dataset_name: as the configurations name it.
    """

    title: str
    folder: str
    stack: str
    sequences: str
    answer: str
    dataset_name: str


@dataclass(frozen=True)
class Variant:
    """A tracker in a challenge.

    Attributes:
        identifier: its name in the toolkit, and the name of its script in `lib/test/vot20/`.
        label: its name in reports.
        tracker, config: as `lib.test.tracker.create_tracker` takes them.
        challenge: where it competes.
        refined: whether Alpha-Refine makes masks of its boxes.
    """

    identifier: str
    label: str
    tracker: str
    config: str
    challenge: Challenge
    refined: bool = False


VOT2020 = Challenge("VOT2020", "vot20", "../stack.yaml", "vot2020", "mask", "VOT20")
VOT2020_LT = Challenge("VOT2020-LT", "vot20_lt", "../stack.yaml", "vot2020_lt", "rectangle", "VOT20LT")

VARIANTS = {
    variant.identifier: variant
    for variant in (
        Variant("stark_s50", "STARK-S50", "stark_s", "baseline", VOT2020),
        Variant("stark_st50", "STARK-ST50", "stark_st", "baseline", VOT2020),
        Variant("stark_st101", "STARK-ST101", "stark_st", "baseline_R101", VOT2020),
        Variant("stark_s50_ar", "STARK-S50-AR", "stark_s", "baseline", VOT2020, refined=True),
        Variant("stark_st50_ar", "STARK-ST50-AR", "stark_st", "baseline", VOT2020, refined=True),
        Variant("stark_st101_ar", "STARK-ST101-AR", "stark_st", "baseline_R101", VOT2020, refined=True),
        Variant("stark_st50_lt", "STARK-ST50-LT", "stark_st", "baseline", VOT2020_LT),
        Variant("stark_st101_lt", "STARK-ST101-LT", "stark_st", "baseline_R101", VOT2020_LT),
    )
}
