import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from tris.errors import InputError
from tris.pseudo.label import PseudoLabel
from tris.pseudo.manifest import LabelSettings
from tris.pseudo.records import decode_label, decode_line, encode_line, make_record
from tris.pseudo.store import (
    discard_stale_store,
    is_label_store_finished,
    list_shards,
    open_label_store,
)
from tris.pseudo.store_writer import LabelStoreWriter, finish_label_store

SETTINGS = LabelSettings(config={"threshold": 0.5}, weights={"response": "ab"}, data={})
OTHER = replace(SETTINGS, config={"threshold": 0.4}, weights={"response": "cd"})
KEYS = [("toy", number) for number in range(7)]


def label_of(number):
    label = np.zeros((4, 5), np.uint8)
    label.flat[: number + 1] = 1
    if number % 2:
        label[-1, -1] = 255
    return label


def record_of(key):
    pseudo_label = PseudoLabel(label_of(key[1]), "sound")
    return make_record(key, pseudo_label, expression_id=10 * key[1], score=0.5)


def write(directory, keys, *, process_index=0, num_processes=1, settings=SETTINGS):
    with LabelStoreWriter(
        directory, settings, process_index=process_index, num_processes=num_processes
    ) as writer:
        fresh = [key for key in keys if key not in writer.done]
        for key in fresh:
            writer.write(record_of(key))
    return fresh


def test_labels_come_back_exactly(tmp_path):
    write(tmp_path / "labels", KEYS)
    finish_label_store(tmp_path / "labels", expected_keys=set(KEYS))
    store = open_label_store(tmp_path / "labels", expected=SETTINGS)
    assert len(store) == len(KEYS)
    assert set(store.keys()) == set(KEYS)
    for dataset, ref_id in reversed(KEYS):
        np.testing.assert_array_equal(store.get(dataset, ref_id), label_of(ref_id))
    assert store.record("toy", 3).expression_id == 30
    assert store.record("toy", 3).score == 0.5


def test_a_referent_without_label_gives_none_and_no_record(tmp_path):
    write(tmp_path, KEYS)
    finish_label_store(tmp_path, expected_keys=set(KEYS))
    store = open_label_store(tmp_path)
    assert store.get("toy", 99) is None
    assert store.get("other", 1) is None
    assert ("toy", 1) in store
    assert ("other", 1) not in store
    with pytest.raises(InputError, match="no label of referent 99 of toy"):
        store.record("toy", 99)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_empty_full_and_ignored_labels_survive_a_record(value):
    pseudo_label = PseudoLabel(np.full((3, 2), value, np.uint8), "sound")
    record = make_record(("toy", 1), pseudo_label, expression_id=1, score=0.0)
    again = decode_line(encode_line(record), source="here")
    assert again == record
    np.testing.assert_array_equal(decode_label(again), pseudo_label.label)


def test_a_dropped_referent_has_a_record_and_no_label(tmp_path):
    dropped = make_record(("toy", 0), PseudoLabel(None, "empty"), expression_id=4, score=0.1)
    with LabelStoreWriter(tmp_path, SETTINGS) as writer:
        writer.write(dropped)
    manifest = finish_label_store(tmp_path, expected_keys={("toy", 0)})
    assert manifest.counts == {"sound": 0, "empty": 1, "whole": 0, "dropped": 1}
    store = open_label_store(tmp_path)
    assert store.get("toy", 0) is None
    assert store.record("toy", 0).expression_id == 4


def test_the_manifest_counts_and_names_software(tmp_path):
    write(tmp_path, KEYS)
    manifest = finish_label_store(tmp_path, expected_keys=set(KEYS))
    assert manifest.num_records == len(KEYS)
    assert manifest.counts["sound"] == len(KEYS)
    assert {"python", "torch"} <= manifest.software.keys()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_store_torn_anywhere_resumes_to_the_unbroken_one(tmp_path, cut):
    write(tmp_path / "whole", KEYS)
    (whole,) = list_shards(tmp_path / "whole")
    write(tmp_path / "torn", KEYS[:4])
    (torn,) = list_shards(tmp_path / "torn")
    torn.write_bytes(torn.read_bytes()[:-cut])
    again = write(tmp_path / "torn", KEYS)
    assert len(again) == 4
    assert torn.read_bytes() == whole.read_bytes()
    finish_label_store(tmp_path / "torn", expected_keys=set(KEYS))


def test_resuming_with_another_number_of_processes_labels_nothing_twice(tmp_path):
    write(tmp_path, KEYS[:2], process_index=0, num_processes=2)
    write(tmp_path, KEYS[4:6], process_index=1, num_processes=2)
    shard = list_shards(tmp_path)[1]
    shard.write_bytes(shard.read_bytes()[:-5])
    assert write(tmp_path, KEYS) == [KEYS[2], KEYS[3], KEYS[5], KEYS[6]]
    finish_label_store(tmp_path, expected_keys=set(KEYS))
    store = open_label_store(tmp_path, expected=SETTINGS)
    for dataset, ref_id in KEYS:
        np.testing.assert_array_equal(store.get(dataset, ref_id), label_of(ref_id))


def test_a_sharded_store_equals_an_unsharded_one(tmp_path):
    write(tmp_path / "one", KEYS)
    for index in range(3):
        write(tmp_path / "three", KEYS[index::3], process_index=index, num_processes=3)
    for name in ("one", "three"):
        finish_label_store(tmp_path / name, expected_keys=set(KEYS))
    one, three = (open_label_store(tmp_path / name) for name in ("one", "three"))
    assert {key: one.record(*key) for key in KEYS} == {key: three.record(*key) for key in KEYS}


def test_a_process_killed_while_writing_leaves_whole_lines_and_a_lock_that_is_taken_over(tmp_path):
    child = os.fork()
    if child == 0:
        LabelStoreWriter(tmp_path, SETTINGS).write(record_of(KEYS[0]))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert len(list(tmp_path.glob("lock-*"))) == 1
    assert write(tmp_path, KEYS) == KEYS[1:]
    assert not list(tmp_path.glob("lock-*"))
    finish_label_store(tmp_path, expected_keys=set(KEYS))


def test_writing_a_label_twice_is_refused(tmp_path):
    with LabelStoreWriter(tmp_path, SETTINGS) as writer:
        writer.write(record_of(KEYS[0]))
        with pytest.raises(InputError, match="has a label already"):
            writer.write(record_of(KEYS[0]))


def test_a_stale_store_is_refused_with_every_difference_named(tmp_path):
    write(tmp_path, KEYS)
    message = r"config.threshold: 0.5, not 0.4; weights.response: ab, not cd"
    with pytest.raises(InputError, match=message):
        write(tmp_path, KEYS, settings=OTHER)
    finish_label_store(tmp_path, expected_keys=set(KEYS))
    with pytest.raises(InputError, match=message):
        open_label_store(tmp_path, expected=OTHER)
    assert len(open_label_store(tmp_path)) == len(KEYS)


def test_a_refused_writer_leaves_no_lock_behind(tmp_path):
    write(tmp_path, KEYS)
    with pytest.raises(InputError):
        write(tmp_path, KEYS, settings=OTHER)
    assert not list(tmp_path.glob("*lock*"))


def test_a_store_is_finished_when_its_manifest_agrees(tmp_path):
    assert not is_label_store_finished(tmp_path, SETTINGS)
    write(tmp_path, KEYS)
    assert not is_label_store_finished(tmp_path, SETTINGS)
    finish_label_store(tmp_path, expected_keys=set(KEYS))
    assert is_label_store_finished(tmp_path, SETTINGS)
    with pytest.raises(InputError, match="other weights or settings"):
        is_label_store_finished(tmp_path, OTHER)


def test_a_stale_store_can_be_discarded_and_an_agreeing_one_stays(tmp_path):
    store = tmp_path / "labels"
    assert discard_stale_store(store, SETTINGS) == []
    write(store, KEYS)
    assert discard_stale_store(store, SETTINGS) == []
    assert store.is_dir()
    assert len(discard_stale_store(store, OTHER)) == 2
    assert not store.exists()


def test_a_store_that_is_being_written_is_not_discarded(tmp_path):
    with LabelStoreWriter(tmp_path, SETTINGS), pytest.raises(InputError, match="is writing"):
        discard_stale_store(tmp_path, OTHER)


def test_an_unfinished_or_missing_store_is_refused(tmp_path):
    with pytest.raises(InputError, match="no label store"):
        open_label_store(tmp_path)
    write(tmp_path, KEYS)
    with pytest.raises(InputError, match="not finished"):
        open_label_store(tmp_path)


def test_new_labels_make_a_finished_store_unfinished_until_it_is_finished_again(tmp_path):
    write(tmp_path, KEYS[:3])
    finish_label_store(tmp_path, expected_keys=set(KEYS[:3]))
    write(tmp_path, KEYS[:3])
    assert len(open_label_store(tmp_path)) == 3
    write(tmp_path, KEYS)
    with pytest.raises(InputError, match="not finished"):
        open_label_store(tmp_path)


def test_a_store_with_missing_or_strange_referents_is_not_finished(tmp_path):
    write(tmp_path, KEYS[:3])
    with pytest.raises(InputError, match="4 referents are missing"):
        finish_label_store(tmp_path, expected_keys=set(KEYS))
    with pytest.raises(InputError, match="1 referents are strangers"):
        finish_label_store(tmp_path, expected_keys=set(KEYS[:2]))


def test_a_store_with_two_labels_of_one_referent_is_not_finished(tmp_path):
    write(tmp_path, KEYS)
    (shard,) = list_shards(tmp_path)
    shard.with_name("shard-00000-of-00009.jsonl").write_bytes(encode_line(record_of(KEYS[0])))
    with pytest.raises(InputError, match="1 referents have two labels"):
        finish_label_store(tmp_path, expected_keys=set(KEYS))


def test_a_store_is_not_finished_while_someone_writes(tmp_path):
    with LabelStoreWriter(tmp_path, SETTINGS), pytest.raises(InputError, match="still writes"):
        finish_label_store(tmp_path, expected_keys=set())


def test_a_torn_line_of_a_shard_that_nobody_continued_is_cut_when_finishing(tmp_path):
    write(tmp_path, KEYS)
    orphan = tmp_path / "shard-00001-of-00002.jsonl"
    orphan.write_bytes(encode_line(record_of(("toy", 50)))[:-9])
    finish_label_store(tmp_path, expected_keys=set(KEYS))
    assert orphan.read_bytes() == b""


def test_a_damaged_line_is_refused_with_its_place(tmp_path):
    write(tmp_path, KEYS)
    (shard,) = list_shards(tmp_path)
    lines = shard.read_bytes().splitlines(keepends=True)
    shard.write_bytes(b"".join([*lines[:2], b'{"dataset": 3}\n', *lines[3:]]))
    with pytest.raises(InputError, match=r"shard-00000-of-00001.jsonl line 3"):
        write(tmp_path, KEYS)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"dataset": 3}, "dataset is 3"),
        ({"ref_id": "1"}, "ref_id is '1'"),
        ({"expression_id": None}, "expression_id is None"),
        ({"score": "high"}, "score is 'high'"),
        ({"degeneracy": "odd"}, "degeneracy is 'odd'"),
        ({"degeneracy": ["sound"]}, r"degeneracy is \['sound'\]"),
        ({"label": [1]}, r"label is \[1\]"),
        ({"ignore": "x"}, "ignore is 'x'"),
        ({"colour": "red"}, "a record has dataset, ref_id"),
    ],
)
def test_a_line_with_a_foreign_value_is_refused_in_one_sentence(changes, problem):
    fields = json.loads(encode_line(record_of(KEYS[0]))) | changes
    with pytest.raises(InputError, match=rf"here holds a damaged record .*{problem}.*labels again"):
        decode_line(json.dumps(fields).encode(), source="here")


@pytest.mark.parametrize("line", [b"[]", b"3", b"{", b"\xff", b'{"dataset": "toy"}'])
def test_a_line_that_is_no_record_is_refused(line):
    with pytest.raises(InputError, match="here holds a damaged record"):
        decode_line(line, source="here")


def test_shards_without_settings_are_refused(tmp_path):
    (tmp_path / "shard-00000-of-00001.jsonl").write_bytes(encode_line(record_of(KEYS[0])))
    with pytest.raises(InputError, match="without settings"):
        write(tmp_path, KEYS)


def test_a_store_that_lost_a_shard_is_refused(tmp_path):
    for index in range(2):
        write(tmp_path, KEYS[index::2], process_index=index, num_processes=2)
    finish_label_store(tmp_path, expected_keys=set(KEYS))
    list_shards(tmp_path)[0].unlink()
    with pytest.raises(InputError, match="holds 3 labels, but its manifest counts 7"):
        open_label_store(tmp_path)
