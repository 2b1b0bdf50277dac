"""The short-term experiment of VOT2020 for vot-toolkit 0.9.0; the toolkit's own class fails at the first sequence.

A stack names it as `type: lib.test.vot20.experiments.MultiStart`.
"""

from collections.abc import Callable

from vot.dataset import Sequence
from vot.dataset.proxy import FrameMapSequence
from vot.experiment.multistart import MultiStartExperiment, find_anchors
from vot.region import Special
from vot.tracker import Tracker
from vot.tracker.results import Trajectory


class MultiStart(MultiStartExperiment):
    """A run from each anchor frame to the farther end of the sequence (section 3 of the VOT2020 report)."""

    def execute(
        self, tracker: Tracker, sequence: Sequence, force: bool = False, callback: Callable[[float], None] | None = None
    ) -> None:
        """Run a tracker from each anchor and write its trajectories; `force` repeats runs whose results exist.

        The sequence's values `anchor` are above 0 to run forwards from a frame, below 0 to run backwards; without any
        there is a RuntimeError. `callback` gets the finished share, in [0, 1].
        """
        forward, backward = find_anchors(sequence, self.anchor)
        if not forward and not backward:
            raise RuntimeError(f"sequence {sequence.name} does not contain any anchors")
        runs = [(anchor, range(anchor, len(sequence))) for anchor in forward]
        runs += [(anchor, range(anchor, -1, -1)) for anchor in backward]
        results = self.results(tracker, sequence)
        with self._get_runtime(tracker, sequence) as runtime:
            for done, (anchor, frames) in enumerate(runs, start=1):
                name = f"{sequence.name}_{anchor:08d}"
                if force or not Trajectory.exists(results, name):
                    self._run(runtime, FrameMapSequence(sequence, list(frames))).write(results, name)
                if callback:
                    callback(done / len(runs))

    def _run(self, runtime: object, frames: Sequence) -> Trajectory:
        """Track frame by frame, as the real-time runtime wants it."""
        trajectory = Trajectory(len(frames))
        _, seconds = runtime.initialize(frames.frame(0), [self._get_initialization(frames, 0)])
        trajectory.set(0, Special(Trajectory.INITIALIZATION), {"time": seconds})
        for i in range(1, len(frames)):
            found, seconds = runtime.update(frames.frame(i), [])
            trajectory.set(i, found[0].region, {**found[0].properties, "time": seconds})
        return trajectory
