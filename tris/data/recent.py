"""Rows of the index that were read lately: unpacking a row costs more than keeping it."""

from tris.data.index import Index, Referent


class RecentReferents:
    """An index whose rows are unpacked once, until `capacity` of them are in memory."""

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
