import collections
import hashlib
import itertools
import json
import pickle

import cv2
import numpy as np
import pytest

from configs import synthetic, synthetic_hard
from tris.data.prepare.grefcoco import read_grefcoco
from tris.data.prepare.grouped import read_grouped
from tris.data.synthetic import SyntheticConfig, choose_named, streams, write_synthetic
from tris.data.synthetic_gres import GresConfig
from tris.data.synthetic_hard import Between, HardConfig, Landmark, Ordinal, Proximity
from tris.data.synthetic_scenes import ALL_SHAPES, HARD, SceneObject, draw_coverage, sample_scene
from tris.data.synthetic_sentences import Description, SentenceWriter, find_true, is_unambiguous
from tris.data.synthetic_textures import PHOTOGRAPHS, cut_background
from tris.data.synthetic_truth import list_scenes
from tris.data.words import singular
from tris.errors import InputError

GRES = SyntheticConfig(
    num_train_images=2, num_val_images=60, num_test_images=30, gres=GresConfig(num_groups=8)
)
HARD_SET = SyntheticConfig(
    num_train_images=60, num_val_images=6, num_test_images=6, max_objects=6, min_visible=0.5,
    striped_share=0.5, unnamed_share=0.67, hard=HardConfig(),
)  # fmt: skip


def thing(shape="circle", color="red", size="small", *, x, y, radius=0.08):
    return SceneObject(shape, color, size, "plain", x, y, radius, 0.0)


@pytest.fixture(scope="module")
def gres_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("gres") / "set"
    write_synthetic(GRES, out)
    return out


@pytest.fixture(scope="module")
def hard_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("hard") / "set"
    write_synthetic(HARD_SET, out)
    return out


@pytest.fixture(scope="module")
def records(gres_folder):
    return json.loads((gres_folder / "grefcoco" / "grefs(unc).json").read_text())


@pytest.fixture(scope="module")
def scenes():
    return list_scenes(GRES, "val") | list_scenes(GRES, "test")


class TestOldBytes:
    def test_the_plain_set_has_the_texts_it_had_before_there_were_others(self, tmp_path):
        config = SyntheticConfig(num_train_images=20, num_val_images=4, num_test_images=4)
        write_synthetic(config, tmp_path / "set")
        digest = hashlib.sha256()
        for name in ("config.json", "refcoco/instances.json", "refcoco/refs(unc).p"):
            digest.update((tmp_path / "set" / name).read_bytes())
        expected = "84dd2717eed6c219d260794751d4598a125500b7c2c32beb06a3659d5ba1877f"
        assert digest.hexdigest() == expected


class TestGres:
    def test_shares_are_those_of_grefcoco(self, records):
        kinds = collections.Counter(each["sentences"][0]["type"] for each in records)
        assert len(records) == 4 * 90
        assert kinds["multi"] / len(records) == pytest.approx(0.29, abs=0.07)
        assert kinds["none"] / len(records) == pytest.approx(0.11, abs=0.05)

    def test_sentences_about_nothing_fit_nothing(self, records, scenes):
        nothing = [each for each in records if each["no_target"]]
        assert nothing
        for record in nothing:
            assert record["ann_id"] == [-1]
            sentence = record["sentences"][0]["sent"]
            assert not find_true(sentence, scenes[record["image_id"]]), sentence

    def test_counted_objects_are_all_of_their_kind(self, records, scenes):
        numbers = {"both": 2, "two": 2, "three": 3, "four": 4}
        checked = 0
        for record in records:
            words = [word for word in record["sentences"][0]["sent"].split() if word != "the"]
            words = [word for word in words if word != "all"]
            if words[0] not in numbers or "and" in words:
                continue
            kind = " ".join([*words[1:-1], singular(words[-1])])
            fitting = find_true(kind, scenes[record["image_id"]])
            assert len(fitting) == len(record["ann_id"]) == numbers[words[0]]
            checked += 1
        assert checked > 10

    def test_the_official_reader_reads_them(self, gres_folder):
        release = read_grefcoco(source=gres_folder)
        drafts = list(release.drafts())
        assert {split for draft in drafts for split in draft.splits} == {"val", "testA"}
        assert any(draft.referent.is_no_target for draft in drafts)
        assert any(len(draft.referent.annotation_ids) > 1 for draft in drafts)

    def test_negatives_of_a_group_do_not_fit_and_positives_are_whole(self, gres_folder, scenes):
        release = read_grouped(dataset="g-refc", source=gres_folder / "groups")
        drafts = list(release.drafts())
        assert len(drafts) > 20
        for draft in drafts:
            referent = draft.referent
            fitting = find_true(referent.sentences[0], scenes[referent.image_id])
            assert len(fitting) == len(referent.annotation_ids)

    def test_they_do_not_go_with_hard_scenes(self):
        with pytest.raises(InputError, match="leave out hard"):
            SyntheticConfig(gres=GresConfig(), hard=HardConfig())


class TestHard:
    def test_the_second_from_the_left(self):
        row = [thing(x=0.1, y=0.5), thing(x=0.4, y=0.2), thing("star", x=0.9, y=0.5)]
        assert is_unambiguous(Ordinal("second", Description(), "left"), row, 1)
        assert is_unambiguous(Ordinal("second", Description(), "right"), row, 1)
        assert is_unambiguous(Ordinal("third", Description(), "right"), row, 0)

    def test_a_rank_that_is_not_clear_is_ambiguous(self):
        row = [thing(x=0.1, y=0.5), thing(x=0.40, y=0.2), thing(x=0.43, y=0.8)]
        assert not is_unambiguous(Ordinal("second", Description(), "left"), row, 1)

    def test_between_is_near_the_line(self):
        ends = [thing("star", x=0.1, y=0.5), thing("ring", x=0.9, y=0.5)]
        expression = Between(
            Description(shape="circle"),
            Landmark(Description(shape="star")),
            Landmark(Description(shape="ring")),
        )
        assert str(expression) == "circle between the star and the ring"
        assert is_unambiguous(expression, [*ends, thing(x=0.5, y=0.52)], 2)
        assert not is_unambiguous(expression, [*ends, thing(x=0.5, y=0.95)], 2)

    def test_next_to_the_larger_star(self):
        objects = [
            thing("star", x=0.2, y=0.2, radius=0.15),
            thing("star", x=0.8, y=0.8, radius=0.08),
            thing(x=0.2, y=0.5),
            thing(x=0.8, y=0.5),
        ]
        star = Description(shape="star")
        larger = Proximity(Description(shape="circle"), Landmark(star, "larger"))
        assert str(larger) == "circle next to the larger star"
        assert is_unambiguous(larger, objects, 2)
        smaller = Proximity(Description(shape="circle"), Landmark(star, "smaller"))
        assert is_unambiguous(smaller, objects, 3)

    @pytest.mark.parametrize(("x_of_other", "is_clear"), [(0.24, False), (0.14, True)])
    def test_of_two_circles_near_a_star_neither_is_the_one_next_to_it(self, x_of_other, is_clear):
        row = [thing("star", x=0.5, y=0.5), thing(x=0.67, y=0.5), thing(x=x_of_other, y=0.5)]
        near = Proximity(Description(shape="circle"), Landmark(Description(shape="star")))
        assert near.find(row, is_strict=True) == {1}
        assert is_unambiguous(near, row, 1) == is_clear

    def test_stars_of_nearly_one_size_are_not_compared(self):
        objects = [
            thing("star", x=0.2, y=0.2, radius=0.09),
            thing("star", x=0.8, y=0.8, radius=0.08),
        ]
        assert Landmark(Description(shape="star"), "larger").find(objects) is None

    def test_every_written_sentence_is_unambiguous(self):
        writer = SentenceWriter(HardConfig().shares, HARD_SET.make_writer().makers)
        for number in range(60):
            rng = np.random.default_rng([3, number])
            objects, _ = sample_scene(HARD_SET, rng, HARD)
            for target in range(len(objects)):
                for expression in writer.write(objects, target, count=3, rng=rng):
                    assert is_unambiguous(expression, objects, target), str(expression)
        assert min(writer.counts.values()) > 20

    @pytest.mark.parametrize(
        ("config", "unnamed"), [(synthetic_hard.HARD_SCENES, 0.5), (synthetic.SCENES, 0.2)]
    )
    def test_as_many_objects_are_unnamed_as_the_configs_say(self, config, unnamed):
        named = count = 0
        for rng in itertools.islice(streams("train", config), 400):
            objects, _ = sample_scene(config, rng, config.palette)
            named += len(choose_named(objects, config.unnamed_share, rng))
            count += len(objects)
        assert 1 - named / count == pytest.approx(unnamed, abs=0.03)

    def test_some_objects_are_unnamed_and_types_are_kept(self, hard_folder):
        refs = pickle.loads((hard_folder / "refcoco" / "refs(unc).p").read_bytes())  # noqa: S301
        instances = json.loads((hard_folder / "refcoco" / "instances.json").read_text())
        assert 0.4 < len(refs) / len(instances["annotations"]) < 0.6
        types = collections.Counter(s["type"] for ref in refs for s in ref["sentences"])
        assert set(types) == set(HardConfig().shares)
        assert {each["name"] for each in instances["categories"]} == set(ALL_SHAPES)

    def test_a_ring_has_a_hole(self):
        coverage = draw_coverage(thing("ring", x=0.5, y=0.5, radius=0.2), 96)
        assert coverage[48, 48] == 0
        assert coverage.max() == 1

    def test_training_and_other_splits_see_other_parts_of_the_photographs(self):
        def pieces(is_training):
            rng = np.random.default_rng(0)
            return [cut_background(32, rng, is_training=is_training) for _ in PHOTOGRAPHS]

        assert all(
            not np.array_equal(a, b) for a, b in zip(pieces(True), pieces(False), strict=True)
        )

    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
    def test_backgrounds_are_textured(self, hard_folder):
        image = cv2.imread(str(hard_folder / "images" / "000001.jpg"))
        assert image.shape == (96, 96, 3)
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 1000

    def test_shares_of_more_than_one_are_refused(self):
        with pytest.raises(InputError, match="more than 1"):
            HardConfig(position_share=0.9)
