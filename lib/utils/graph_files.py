"""Where the exported graphs of a network lie."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GraphFiles:
    """Where the graphs of one network lie, written or not.

    Attributes:
        folder: holds nothing else, but what is made of the graphs, and the published ones.
    """

    folder: Path

    @property
    def template(self) -> Path:
        """Turns a template crop into what is kept of it."""
        return self.folder / "template.onnx"

    @property
    def search(self) -> Path:
        """Finds the box in a search crop."""
        return self.folder / "search.onnx"

    def made_of(self, part: str, suffix: str) -> Path:
        """The file that an engine makes of the `template` or the `search` graph."""
        return self.folder / f"{part}{suffix}"

    @property
    def regions(self) -> Path:
        """What `lib.utils.regions.Regions` holds of the network."""
        return self.folder / "regions.npz"

    @property
    def complete(self) -> bool:
        """Whether all of them are written."""
        return self.template.is_file() and self.search.is_file() and self.regions.is_file()
