"""The sentences of one REFER record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tris.data.prepare.release import Log, clean_text, take
from tris.errors import InputError, shorten


@dataclass(frozen=True)
class Sentences:
    """Lists of one length; see `tris.data.referent.Referent`."""

    expression_ids: tuple[int, ...]
    sentences: tuple[str, ...]
    raw_sentences: tuple[str, ...]
    expression_types: tuple[str, ...]


def read_sentences(records: Sequence[object], *, of: str, log: Log) -> Sentences:
    """Read a REFER record's sentences; empty ones are left out and noted.

    Raises:
        InputError: If a sentence has no id, or its text is no text.
    """
    kept: list[tuple[int, str, str, str]] = []
    for record in records:
        if not isinstance(record, Mapping):
            raise InputError(
                f"{of} should have a list of dict as 'sentences', not {shorten(record)}."
            )
        expression_id = take(record, "sent_id", int, of=f"A sentence of {of}")
        cleaned, raw = _texts(record, of=f"Sentence {expression_id} of {of}")
        if cleaned:
            kept.append((expression_id, cleaned, raw, str(record.get("type", ""))))
        else:
            log.left_out.append(f"sentence {expression_id} of {of}: it is empty")
    types = tuple(kind for *_, kind in kept)
    return Sentences(
        expression_ids=tuple(expression_id for expression_id, *_ in kept),
        sentences=tuple(cleaned for _, cleaned, _, _ in kept),
        raw_sentences=tuple(raw for _, _, raw, _ in kept),
        expression_types=types if any(types) else (),
    )


def _texts(record: Mapping[str, Any], *, of: str) -> tuple[str, str]:
    """Return cleaned and raw text; Ref-ZOM has no ``sent``, some copies no ``raw``."""
    texts = {key: record.get(key) or "" for key in ("sent", "raw")}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise InputError(f"{of} should have text as {key!r}, not {shorten(text)}.")
    cleaned, raw = clean_text(texts["sent"]), clean_text(texts["raw"])
    return cleaned or raw.lower(), raw or cleaned
