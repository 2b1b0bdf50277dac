"""Boxes drawn into the frames of a test set."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.sequence import Sequence
from ..tracker import Tracker, explains
from ..video import output as video
from ..video.attention import attention_writer

DEBUG_LEVELS = (0, 1, 2)
FOLDER, PICTURE = "debug", "{:08d}.jpg"  # pictures are numbered from 1

# Takes a frame's index, the frame (H, W, 3) uint8 RGB, its box xywh and the tracker's confidence where it has one.
FrameObserver = Callable[[int, np.ndarray, list[float], float | None], None]


@dataclass(frozen=True)
class Overlays:
    """Where frames with boxes go: into a window, or into `<output_dir>/debug/[<subfolder>/]<sequence>/`."""

    output_dir: Path
    pictures: bool = False  # save every frame as a JPEG beside the video of the sequence
    window: video.Window | None = None  # shows the frames instead

    def are_drawn(self, sequence: Sequence) -> bool:
        """Whether all files of a sequence exist; never for a window."""
        files = [video.VIDEO, PICTURE.format(1)] if self.pictures else [video.VIDEO]
        return self.window is None and all((self._folder(sequence) / name).is_file() for name in files)

    @contextmanager
    def drawing(self, sequence: Sequence, tracker: Tracker) -> Iterator[FrameObserver]:
        """Give the function that draws one frame after the other; q in the window ends the whole run.

        With `pictures` there are also those of what the tracker's network looks at, where it can explain itself.
        """
        size, truth = video.video_size(sequence.read_frame(0)), sequence.truth
        name = sequence.name.encode("ascii", "replace").decode()

        def canvas(index: int, image: np.ndarray, box: list[float], score: float | None) -> np.ndarray:
            sure = "" if score is None else f"   confidence {score:.2f}"
            boxes = [*((each, video.TRUTH) for each in truth[index : index + 1]), (box, video.box_colour(score))]
            return video.draw_overlay(image, size, f"{name}   frame {index + 1} of {len(sequence)}{sure}", boxes)

        def show(*frame: object) -> None:
            if self.window.show(canvas(*frame)) == "q":
                raise KeyboardInterrupt

        if self.window is not None:
            yield show
            return
        folder = self._folder(sequence)
        folder.mkdir(parents=True, exist_ok=True)
        # The video comes last: where it exists, all files exist. Temporary files are of a run that was killed.
        for path in (folder / video.VIDEO, *folder.glob(".*.????????.*")):
            path.unlink(missing_ok=True)
        with (
            attention_writer(folder, None) as write_attention,
            video.video_writer(folder / video.VIDEO, 30.0) as write,
        ):

            def save(index: int, image: np.ndarray, box: list[float], score: float | None) -> None:
                drawn = canvas(index, image, box, score)
                write(drawn)
                if self.pictures:
                    video.save_picture(folder / PICTURE.format(index + 1), drawn)
                if index and self.pictures and explains(tracker):
                    write_attention(index + 1, tracker.explain())

            yield save

    def _folder(self, sequence: Sequence) -> Path:
        return self.output_dir / FOLDER / sequence.subfolder / sequence.name


@contextmanager
def overlays_for(debug: int, output_dir: Path, alone: bool) -> Iterator[Overlays | None]:
    """Overlays of one of `DEBUG_LEVELS`; a window opens only where this process tracks alone.

    0: None; 1: boxes in a window, or in a video a sequence where no window can be; 2: the video, and pictures.
    """
    obstacle = video.missing_display() if alone else "several processes track"
    if debug == 0:
        yield None
    elif debug == 1 and obstacle is None:
        with closing(video.Window()) as window:
            yield Overlays(output_dir, window=window)
    else:
        why = f"no window: {obstacle}; " if debug == 1 else ""
        print(f"{why}overlays go to {output_dir / FOLDER}")
        yield Overlays(output_dir, pictures=debug > 1)
