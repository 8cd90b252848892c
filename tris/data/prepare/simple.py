"""A release whose referents are known once its files were read: most sets but REFER's."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tris.data.prepare.photographs import Size
from tris.data.prepare.release import Draft, Log


@dataclass
class SimpleRelease:
    """A `tris.data.prepare.release.Release` made of its parts.

    Attributes:
        make_drafts: Goes through the referents, once.
        num_drafts: How many there are.
        sizes: Height, width by file name; None = take the file's.
    """

    dataset: str
    sources: tuple[Path, ...]
    sizes: Mapping[str, Size | None]
    make_drafts: Callable[[], Iterator[Draft]]
    num_drafts: int
    split_by: str = ""
    training_splits: tuple[str, ...] = ("train",)
    image_subfolders: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    log: Log = field(default_factory=Log)

    def __len__(self) -> int:
        return self.num_drafts

    def photographs(self) -> Mapping[str, Size | None]:
        """Return the annotated size by file name."""
        return self.sizes

    def drafts(self) -> Iterator[Draft]:
        """Go through the referents."""
        return self.make_drafts()
