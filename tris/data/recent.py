"""Rows of the index at hand: those that were read lately, and all of one photograph."""

from tris.data.index import Index, Referent


class RecentReferents:
    """An index whose rows are unpacked once, until `capacity` of them are in memory.

    Unpacking a row costs more than keeping it.
    """

    def __init__(self, index: Index, *, capacity: int = 1 << 14) -> None:
        self._index, self._capacity = index, capacity
        self._rows: dict[int, Referent] = {}

    def __getitem__(self, row: int) -> Referent:
        """Return one referent; the row is not negative."""
        referent = self._rows.get(row)
        if referent is None:
            if len(self._rows) >= self._capacity:
                self._rows.clear()
            referent = self._rows[row] = self._index[row]
        return referent


def rows_by_image(index: Index) -> dict[int, list[int]]:
    """Return the rows about each photograph, by its image id."""
    rows: dict[int, list[int]] = {}
    for row, image_id in enumerate(index.column("image_id").to_pylist()):
        rows.setdefault(image_id, []).append(row)
    return rows
