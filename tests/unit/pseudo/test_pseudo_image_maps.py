"""From the maps of all sentences of an image to one map per referent, and who competes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tris.batch import Batch, InputSpec, TokenizerConfig
from tris.data.index import IndexWriter, Referent, open_index
from tris.encoders.clip import ClipConfig
from tris.pseudo.averaging import average_maps
from tris.pseudo.contest import Contest
from tris.pseudo.label_presets import EMBEDDED_COMPETING_LABELS, EMBEDDED_LABELS
from tris.pseudo.merging import margin_weights
from tris.pseudo.prms import PrmsConfig, map_similarity
from tris.pseudo.selection import choose_maps
from tris.response.calibration import upsample
from tris.response.response_net import ResponseNetConfig

SIZE = 64
SPEC = InputSpec(image_size=(SIZE, SIZE), tokenizer=TokenizerConfig(context_length=8))
CLIP = ClipConfig("tris-small", pretrained="", input_spec=SPEC)
PRMS = PrmsConfig(activation="sigmoid")
MARGIN = replace(PRMS, method="margin", temperature=0.02)
SENTENCES = [(3, 0), (2, 0), (1, 0), (2, 1)]
"""Of each referent: how many sentences, and in which image."""
NUMBERS = list(range(8))
IMAGE_INDEX = [0, 0, 0, 0, 0, 0, 1, 1]
REFERENT = [0, 0, 0, 1, 1, 2, 3, 3]


def write_index(folder, **changes):
    with IndexWriter(folder, dataset="refcoco", images=folder.parent) as writer:
        for number, (count, image) in enumerate(SENTENCES):
            sentences = tuple(f"thing {number} number {n}" for n in range(count))
            referent = Referent(
                referent_id=number, image_id=image, file_name=f"{image}.jpg", height=SIZE,
                width=SIZE, expression_ids=tuple(10 * number + n for n in range(count)),
                sentences=sentences, raw_sentences=sentences, annotation_ids=(100 + number,),
            )  # fmt: skip
            referent = replace(referent, **changes.get(f"referent_{number}", {}))
            writer.add("train", referent)
    return open_index(folder, "train")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_index(tmp_path_factory.mktemp("data") / "index")


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    network = ResponseNetConfig(encoder=CLIP, input_spec=SPEC, dim=16).build().eval()
    return network, CLIP.build().eval()


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(5)
    token_ids = torch.randint(3, 60, (8, 8), generator=generator)
    token_ids[:, 7] = 63
    return Batch(
        images=torch.randn(2, 3, SIZE, SIZE, generator=generator),
        image_id=torch.arange(2),
        original_size=torch.full((2, 2), SIZE),
        content_size=torch.tensor([[SIZE, SIZE], [48, SIZE]]),
        token_ids=token_ids,
        token_mask=token_ids > 0,
        image_index=torch.tensor(IMAGE_INDEX),
        referent_id=torch.tensor(REFERENT),
        expression_id=torch.arange(8),
        text_id=torch.arange(8),
        is_no_target=torch.zeros(8, dtype=torch.bool),
        group_index=torch.zeros(8, dtype=torch.long),
    )


def choose(networks, batch, index, selection, label=EMBEDDED_LABELS):
    return list(choose_maps(*networks, [(NUMBERS, batch)], index, selection=selection, label=label))


@pytest.fixture(scope="module")
def merged(networks, batch, index):
    return choose(networks, batch, index, MARGIN)


def test_images_come_one_after_the_other_with_their_referents(merged):
    ids = [[each.referent.referent_id for each in image.chosen] for image in merged]
    assert ids == [[0, 1, 2], [3]]


def similarity_of_first_image(networks, batch):
    network, judge = networks
    logits = upsample(network(batch).response_logits, (SIZE, SIZE))
    return map_similarity(
        logits[:6], batch.images[0], judge.embed_texts(batch.token_ids[:6]),
        embed_images=judge.embed_images, image_size=(SIZE, SIZE), config=PRMS,
    )  # fmt: skip


@torch.no_grad()
def test_a_merged_map_is_the_weighted_mean_of_its_referents_maps(networks, batch, merged):
    logits = upsample(networks[0](batch).response_logits, (SIZE, SIZE))
    similarity = similarity_of_first_image(networks, batch)
    owner = torch.tensor(REFERENT[:6])
    rivals = owner[:, None] != owner[None]
    weights, margins = margin_weights(similarity, owner, rivals=rivals, temperature=0.02)
    for place, chosen in enumerate(merged[0].chosen):
        own = [row for row in range(6) if REFERENT[row] == place]
        wanted = sum(weights[row] * logits[row] for row in own)
        np.testing.assert_allclose(chosen.response_logits, wanted, rtol=1e-3, atol=1e-4)
        best = own[int(weights[own].argmax())]
        assert chosen.position == own.index(best)
        assert chosen.score == pytest.approx(float(margins[best]), abs=1e-4)


def test_padding_is_cut_off(merged):
    (alone,) = merged[1].chosen
    assert alone.response_logits.shape == (48, SIZE)


def test_prms_picks_the_same_maps_with_and_without_competition(networks, batch, index):
    competing = replace(EMBEDDED_LABELS, competition="image")
    without = choose(networks, batch, index, PRMS)
    together = choose(networks, batch, index, PRMS, competing)
    for one, other in zip(without, together, strict=True):
        for left, right in zip(one.chosen, other.chosen, strict=True):
            assert left.position == right.position
            assert left.score == pytest.approx(right.score, abs=1e-4)
            np.testing.assert_allclose(left.response_logits, right.response_logits, atol=1e-5)


def test_only_a_competition_makes_referents_compete(networks, batch, index, merged):
    assert merged[0].contests == (Contest(((0,),), 1), Contest(((1,),), 1), Contest(((2,),), 1))
    # No map of these random networks may count as another's.
    competing = replace(EMBEDDED_LABELS.competing, map_overlap=1.1)
    label = replace(EMBEDDED_LABELS, competition="image", competing=competing)
    first, second = choose(networks, batch, index, MARGIN, label)
    assert first.contests == (Contest(((0,), (1,), (2,)), 3),)
    assert second.contests == (Contest(((0,),), 1),)


@torch.no_grad()
def test_sentences_of_the_same_object_are_no_rivals_in_the_margin(networks, batch, tmp_path):
    same = {f"referent_{number}": {"annotation_ids": (100,)} for number in range(3)}
    first, _ = choose(networks, batch, write_index(tmp_path / "index", **same), MARGIN)
    similarity = similarity_of_first_image(networks, batch)
    own = [float(similarity[:3, :3].mean(1).max()), float(similarity[3:5, 3:5].mean(1).max())]
    assert [each.score for each in first.chosen[:2]] == pytest.approx(own, abs=1e-4)


# --- later rounds ---


def average(index, batch, logits, label=EMBEDDED_COMPETING_LABELS):
    return list(average_maps(lambda _: logits, [(NUMBERS, batch)], index, label=label))


def halves(*rows):
    """One map per row of two logits: that of the left half and that of the right."""
    left, right = torch.tensor(rows, dtype=torch.float32).T
    columns = torch.arange(SIZE) < SIZE // 2
    maps = torch.where(columns, left[:, None], right[:, None])
    return maps[:, None].expand(-1, SIZE, SIZE).contiguous()


LEFT, RIGHT, NOWHERE = (8.0, -8.0), (-8.0, 8.0), (-8.0, -8.0)


def test_a_map_of_a_later_round_is_the_logit_of_the_mean_probability(index, batch):
    logits = torch.randn(8, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    first, second = average(index, batch, logits)
    wanted = torch.logit(logits[:3].sigmoid().mean(dim=0))
    np.testing.assert_allclose(first.chosen[0].response_logits, wanted, rtol=1e-4, atol=1e-4)
    wanted = torch.logit(logits[6:].sigmoid().mean(dim=0))[:48]
    np.testing.assert_allclose(second.chosen[0].response_logits, wanted, rtol=1e-4, atol=1e-4)


def test_two_sentences_outvote_one_however_sure_it_is(index, batch):
    logits = halves((3.0, -3.0), (3.0, -3.0), (-50.0, 50.0), LEFT, LEFT, RIGHT, LEFT, LEFT)
    chosen = average(index, batch, logits)[0].chosen[0]
    assert chosen.response_logits[0, 0] > chosen.response_logits[0, -1]
    assert chosen.score < 1
    assert chosen.position in (0, 1)


def test_sentences_that_agree_score_one(index, batch):
    chosen = average(index, batch, halves(*[LEFT] * 3, *[RIGHT] * 5))[0].chosen
    assert [each.score for each in chosen] == [1, 1, 1]


def test_referents_whose_every_sentence_finds_the_same_are_joined(index, batch):
    first, _ = average(index, batch, halves(*[LEFT] * 5, RIGHT, LEFT, LEFT))
    assert first.contests == (Contest(((0, 1), (2,)), 2),)


def test_means_that_coincide_by_chance_of_single_sentences_are_not_joined(index, batch):
    # The mean of referent 0 is on the left thanks to two of three sentences.
    first, _ = average(index, batch, halves(LEFT, LEFT, RIGHT, LEFT, LEFT, RIGHT, LEFT, LEFT))
    assert first.contests == (Contest(((0,), (1,), (2,)), 3),)


def test_a_referent_that_no_sentence_finds_has_a_map_far_below_zero(index, batch):
    chosen = average(index, batch, halves(*[NOWHERE] * 8))[0].chosen[0]
    assert chosen.response_logits.max() < -7
    assert np.isfinite(chosen.response_logits).all()
