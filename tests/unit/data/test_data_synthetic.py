import collections
import dataclasses
import hashlib
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tris.data.synthetic import SyntheticConfig, is_synthetic_written, write_synthetic
from tris.data.synthetic_scenes import (
    COLORS,
    SceneObject,
    SceneRules,
    draw_coverage,
    render,
    sample_scene,
    visible_masks,
)
from tris.data.synthetic_sentences import (
    Description,
    Expression,
    SentenceWriter,
    find_referents,
    is_unambiguous,
    parse,
)
from tris.data.synthetic_truth import count_counted
from tris.errors import InputError

TINY = SyntheticConfig(num_train_images=20, num_val_images=4, num_test_images=4)
SHARES = {"attribute": 0.71, "position": 0.16, "relation": 0.13}


def thing(shape="circle", color="red", size="small", *, x, y, pattern="plain", radius=0.1):
    return SceneObject(shape, color, size, pattern, x, y, radius, 0.0)


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(SceneRules(), np.random.default_rng([7, number])) for number in range(200)]


@pytest.fixture(scope="module")
def written(scenes):
    """Of each scene and object: the objects, the target, its sentences as text."""
    writer = SentenceWriter(dict(SHARES))
    rng = np.random.default_rng(1)
    return [
        (objects, target, [str(e) for e in writer.write(objects, target, count=3, rng=rng)])
        for objects, _ in scenes
        for target in range(len(objects))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "set"
    write_synthetic(TINY, out)
    return out


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def read(folder: Path) -> tuple[list, dict]:
    refs = (folder / "refcoco" / "refs(unc).p").read_bytes()
    instances = (folder / "refcoco" / "instances.json").read_text()
    return pickle.loads(refs), json.loads(instances)  # noqa: S301 - written by this test


class TestSentences:
    def test_every_written_sentence_means_its_object_and_no_other(self, written):
        for objects, target, sentences in written:
            for sentence in sentences:
                assert is_unambiguous(parse(sentence), objects, target), (sentence, objects)

    def test_place_words_agree_with_plain_coordinates(self, written):
        """Checks the meaning against a second one, written here."""
        axes = {
            "leftmost": lambda o: -o.x,
            "rightmost": lambda o: o.x,
            "topmost": lambda o: -o.y,
            "lowest": lambda o: o.y,
        }
        checked = 0
        for objects, target, sentences in written:
            for first, *words in (sentence.split() for sentence in sentences):
                if first in axes:
                    fitting = [o for o in objects if {*words} - {"thing"} <= {*o.look}]
                    assert max(fitting, key=axes[first]) is objects[target]
                    checked += 1
        assert checked > 50

    def test_side_words_agree_with_plain_coordinates(self, written):
        sides = {"left": ("x", -1), "right": ("x", 1), "top": ("y", -1), "bottom": ("y", 1)}
        checked = 0
        for objects, target, sentences in written:
            for *words, last in (sentence.split() for sentence in sentences):
                if last in sides:
                    axis, sign = sides[last]
                    fitting = [o for o in objects if {*words[:-2]} - {"thing"} <= {*o.look}]
                    inside = [o for o in fitting if sign * (getattr(o, axis) - 0.5) > 0]
                    assert inside == [objects[target]]
                    checked += 1
        assert checked > 30

    def test_types_keep_their_shares(self, written):
        types = collections.Counter(parse(s).type for _, _, sentences in written for s in sentences)
        for name, share in SHARES.items():
            assert types[name] / types.total() == pytest.approx(share, abs=0.02)

    def test_sentences_of_an_object_differ(self, written):
        assert all(len({*sentences}) == len(sentences) for _, _, sentences in written)

    def test_nearly_every_object_gets_all_its_sentences(self, written):
        counts = [len(sentences) for _, _, sentences in written]
        assert min(counts) >= 1
        assert np.mean(np.array(counts) == 3) > 0.99

    def test_the_vocabulary_has_29_words(self, written):
        words = {w for _, _, sentences in written for s in sentences for w in s.split()}
        assert len(words) == 29

    @pytest.mark.parametrize(
        "sentence",
        [
            "large purple triangle",
            "leftmost thing",
            "circle on the left",
            "small striped star at the bottom",
            "circle right of the red square",
        ],
    )
    def test_parsing_is_the_inverse_of_writing(self, sentence):
        assert str(parse(sentence)) == sentence

    @pytest.mark.parametrize("sentence", ["red", "red circle blue", "thing circle", "a dog", ""])
    def test_other_sentences_are_refused(self, sentence):
        with pytest.raises(InputError, match="no description"):
            parse(sentence)

    def test_two_objects_that_fit_are_ambiguous(self):
        objects = [thing(x=0.2, y=0.2), thing(color="blue", x=0.8, y=0.8)]
        assert find_referents(parse("circle"), objects, is_strict=True) == {0, 1}
        assert not is_unambiguous(parse("circle"), objects, 0)

    def test_a_lead_too_small_to_see_is_ambiguous(self):
        objects = [thing(x=0.30, y=0.2), thing(color="blue", x=0.33, y=0.8)]
        assert not is_unambiguous(parse("leftmost circle"), objects, 0)

    def test_a_large_object_that_reaches_further_makes_the_extreme_ambiguous(self):
        objects = [thing(x=0.30, y=0.2), thing(color="blue", x=0.38, y=0.7, radius=0.19)]
        assert not is_unambiguous(parse("leftmost circle"), objects, 0)
        assert not is_unambiguous(parse("leftmost circle"), objects, 1)

    def test_a_landmark_that_fits_twice_means_nothing(self):
        objects = [thing(x=0.2, y=0.2), thing(color="blue", x=0.8, y=0.2)]
        expression = Expression(Description(), direction="left of", landmark=Description())
        assert find_referents(expression, objects, is_strict=False) == set()

    def test_diagonal_places_are_no_clear_relation(self):
        objects = [thing("square", x=0.2, y=0.2), thing(x=0.5, y=0.9)]
        assert not is_unambiguous(parse("circle right of the square"), objects, 1)
        assert is_unambiguous(parse("circle below the square"), objects, 1)


class TestScenes:
    def test_objects_in_front_are_cut_out_of_those_behind(self):
        behind, front = thing(x=0.4, y=0.5, radius=0.19), thing(x=0.6, y=0.5, radius=0.19)
        coverage = np.stack([draw_coverage(behind, 96), draw_coverage(front, 96)])
        masks = visible_masks(coverage)
        assert not (masks[0] & masks[1]).any()
        assert masks[1].sum() == (coverage[1] >= 0.5).sum()
        assert masks[0].sum() < (coverage[0] >= 0.5).sum()

    def test_every_object_stays_visible(self, scenes):
        for _, coverage in scenes:
            own = (coverage >= 0.5).sum(axis=(1, 2))
            assert (visible_masks(coverage).sum(axis=(1, 2)) >= 0.6 * own).all()

    def test_some_objects_are_partly_covered(self, scenes):
        covered = [
            (visible_masks(coverage).sum(axis=(1, 2)) < (coverage >= 0.5).sum(axis=(1, 2))).any()
            for _, coverage in scenes
        ]
        assert np.mean(covered) > 0.1

    def test_no_two_objects_look_the_same(self, scenes):
        assert all(len({o.look for o in objects}) == len(objects) for objects, _ in scenes)

    def test_coverage_is_antialiased_and_of_the_right_area(self):
        coverage = draw_coverage(thing(x=0.5, y=0.5, radius=0.2), 96)
        assert coverage.sum() == pytest.approx(np.pi * (0.92 * 0.2 * 96) ** 2, rel=0.02)
        assert ((coverage > 0.05) & (coverage < 0.95)).any()

    def test_the_object_is_painted_in_its_color(self):
        objects = (thing(color="blue", x=0.5, y=0.5, radius=0.19),)
        coverage = draw_coverage(objects[0], 96)[None]
        image = render(objects, coverage, np.random.default_rng(0))
        red, green, blue = image[coverage[0] > 0.99].mean(axis=0)
        assert blue > red + 60
        assert blue > green + 60


class TestFiles:
    def test_the_same_config_gives_the_same_bytes(self, folder, tmp_path):
        write_synthetic(TINY, tmp_path / "again")
        assert digest(folder) == digest(tmp_path / "again")

    def test_another_seed_gives_other_images(self, folder, tmp_path):
        write_synthetic(dataclasses.replace(TINY, seed=1), tmp_path / "other")
        mine, other = digest(folder), digest(tmp_path / "other")
        assert all(mine[name] != other[name] for name in mine)

    def test_splits_do_not_share_an_image(self, folder):
        pixels = [digest(folder)[f"images/{number:06d}.jpg"] for number in range(1, 29)]
        assert len({*pixels}) == 28

    def test_refs_name_annotations_and_types(self, folder):
        refs, instances = read(folder)
        annotations = {a["id"]: a for a in instances["annotations"]}
        assert collections.Counter(ref["split"] for ref in refs).keys() == {"train", "val", "test"}
        for ref in refs:
            assert annotations[ref["ann_id"]]["image_id"] == ref["image_id"]
            assert ref["sent_ids"] == [s["sent_id"] for s in ref["sentences"]]
            assert all(s["type"] == parse(s["sent"]).type for s in ref["sentences"])

    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
    def test_masks_are_where_the_color_is(self, folder):
        refs, instances = read(folder)
        annotations = {a["id"]: a for a in instances["annotations"]}
        checked = 0
        for ref in refs:
            said = [parse(s["sent"]).subject for s in ref["sentences"]]
            colors = [d.color for d in said if d.color]
            if not colors or not any(d.pattern == "plain" for d in said):
                continue
            image = cv2.imread(str(folder / "images" / ref["file_name"]))[..., ::-1]
            mask = coco_mask.decode(annotations[ref["ann_id"]]["segmentation"])[..., 0]
            distance = {
                name: np.abs(np.median(image[mask == 1], axis=0) - color).sum()
                for name, color in COLORS.items()
            }
            assert min(distance, key=distance.get) == colors[0]
            checked += 1
        assert checked > 10

    def test_unnamed_objects_have_an_annotation_and_no_sentence(self, tmp_path):
        config = dataclasses.replace(TINY, unnamed_share=0.5)
        write_synthetic(config, tmp_path / "set")
        refs, instances = read(tmp_path / "set")
        assert len(refs) < 0.85 * len(instances["annotations"])
        assert {r["image_id"] for r in refs} == {i["id"] for i in instances["images"]}

    @pytest.mark.parametrize(("fewest", "most"), [(1, 4), (0, 0), (4, 3)])
    def test_odd_numbers_of_objects_are_refused(self, fewest, most):
        with pytest.raises(InputError, match=f"min_objects is {fewest} and max_objects {most}"):
            SyntheticConfig(min_objects=fewest, max_objects=most)

    def test_an_existing_folder_is_left_alone(self, folder):
        before = digest(folder)
        with pytest.raises(InputError, match="exists already"):
            write_synthetic(TINY, folder)
        assert digest(folder) == before

    def test_a_folder_knows_its_config(self, folder, tmp_path):
        assert is_synthetic_written(TINY, folder)
        assert not is_synthetic_written(dataclasses.replace(TINY, seed=3), folder)
        assert not is_synthetic_written(TINY, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("sentence", "count"),
    [
        ("both red circles", 2),
        ("the two circles", 3),
        ("all three things", 4),
        ("both circles and the star", None),
        ("red circle", None),
    ],
)
def test_a_counted_kind_is_compared_with_the_scene(sentence, count):
    looks = (("circle", "red"), ("circle", "red"), ("circle", "blue"), ("star", "blue"))
    scene = [thing(*look, x=0.2 * number, y=0.5) for number, look in enumerate(looks)]
    assert count_counted(sentence, scene) == count
