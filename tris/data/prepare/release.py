"""What every reader of a published format gives: a `Release`, which `assemble` makes an index."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from tris.data.masks import Rle
from tris.data.prepare.photographs import Size
from tris.data.referent import Referent
from tris.errors import InputError, shorten

Box = tuple[float, float, float, float]
Draw = Callable[[int, int], tuple[Rle, tuple[Box, ...]]]
"""Takes height and width; gives the mask of a referent and the boxes of its objects."""


@dataclass(frozen=True)
class Draft:
    """A referent before its mask is drawn.

    Attributes:
        splits: Splits that it belongs to; refclef's "testAB" is in two.
        referent: Without mask and boxes; ``file_name`` as the release spells it, height and width
            0: `assemble` takes them from the photograph.
        draw: Draws mask and boxes; never called where they are left out. None = there are none.
    """

    splits: tuple[str, ...]
    referent: Referent
    draw: Draw | None


@dataclass
class Log:
    """What a reader left out or mended, for the manifest."""

    left_out: list[str] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)

    def mend(self, what: str) -> None:
        """Count something that was mended; the number stands in a warning."""
        self.mended[what] += 1


@runtime_checkable
class Release(Protocol):
    """A data set as its authors released it, ready to be read once."""

    dataset: str
    split_by: str
    sources: tuple[Path, ...]
    training_splits: tuple[str, ...]
    image_subfolders: tuple[str, ...]
    options: dict[str, str]
    log: Log

    def __len__(self) -> int:
        """Return the number of drafts."""
        ...

    def photographs(self) -> Mapping[str, Size | None]:
        """Return the annotated size by file name, None where the release does not say."""
        ...

    def drafts(self) -> Iterator[Draft]:
        """Go through the referents."""
        ...


def clean_text(text: str) -> str:
    """Return a sentence on one line, without NUL and without halves of characters.

    Emoji, right-to-left text, case and punctuation stay as they are.
    """
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return " ".join(whole.replace("\0", " ").split())


Wanted = TypeVar("Wanted")


def take(record: Mapping[str, Any], key: str, kind: type[Wanted], *, of: str) -> Wanted:
    """Return ``record[key]``, of the type that the format promises.

    Raises:
        InputError: If it is missing or of another type; ``of`` names the record.
    """
    value = record.get(key)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    if value is None and key not in record:
        raise InputError(f"{of} has no {key!r}.")
    raise InputError(f"{of} should have {kind.__name__} as {key!r}, not {shorten(value)}.")
