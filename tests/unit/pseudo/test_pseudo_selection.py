"""PRMS over batches of whole images."""

import pytest
import torch

from tris.batch import Batch, InputSpec, TokenizerConfig
from tris.encoders.clip import ClipConfig, ClipEncoder
from tris.pseudo.prms import PrmsConfig, map_similarity, pick_positive_map
from tris.pseudo.selection import select_in_batch

SPEC = InputSpec(image_size=(64, 64), tokenizer=TokenizerConfig(context_length=8))
CONFIG = PrmsConfig(activation="sigmoid")


@pytest.fixture(scope="module")
def judge() -> ClipEncoder:
    torch.manual_seed(0)
    return ClipConfig("tris-small", pretrained="", input_spec=SPEC).build().eval()


def make_batch(referents: list[int], image_index: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(5)
    rows = len(referents)
    token_ids = torch.randint(3, 60, (rows, 8), generator=generator)
    token_ids[:, 7] = 63
    images = max(image_index) + 1
    return Batch(
        images=torch.randn(images, 3, 64, 64, generator=generator),
        image_id=torch.arange(images),
        original_size=torch.full((images, 2), 64),
        content_size=torch.full((images, 2), 64),
        token_ids=token_ids,
        token_mask=token_ids > 0,
        image_index=torch.tensor(image_index),
        referent_id=torch.tensor(referents),
        expression_id=torch.arange(rows),
        text_id=torch.arange(rows),
        is_no_target=torch.zeros(rows, dtype=torch.bool),
        group_index=torch.zeros(rows, dtype=torch.long),
    )


def make_maps(rows: int) -> torch.Tensor:
    return 4 * torch.randn(rows, 64, 64, generator=torch.Generator().manual_seed(6))


@torch.no_grad()
def test_every_referent_gets_what_it_would_get_alone(judge):
    batch = make_batch([7, 7, 7, 9, 8, 8], [0, 0, 0, 0, 1, 1])
    maps = make_maps(6)
    selections = select_in_batch(maps, batch, judge, CONFIG)
    assert [each.referent_id for each in selections] == [7, 9, 8]
    assert [each.rows for each in selections] == [(0, 1, 2), (3,), (4, 5)]
    for each in selections:
        rows = list(each.rows)
        similarity = map_similarity(
            maps[rows],
            batch.images[batch.image_index[rows[0]]],
            judge.embed_texts(batch.token_ids[rows]),
            embed_images=judge.embed_images,
            image_size=(64, 64),
            config=CONFIG,
        )
        alone = pick_positive_map(similarity)
        assert each.row == rows[alone.position]
        assert each.score == pytest.approx(alone.score, abs=1e-5)


@torch.no_grad()
def test_referents_whose_rows_are_not_neighbours_are_kept_together(judge):
    batch = make_batch([7, 9, 7, 9], [0, 0, 0, 0])
    selections = select_in_batch(make_maps(4), batch, judge, CONFIG)
    assert [(each.referent_id, each.rows) for each in selections] == [(7, (0, 2)), (9, (1, 3))]
    assert all(each.row in each.rows for each in selections)


@torch.no_grad()
def test_the_choice_follows_a_permutation_of_the_sentences(judge):
    batch, maps = make_batch([7, 7, 7], [0, 0, 0]), make_maps(3)
    (first,) = select_in_batch(maps, batch, judge, CONFIG)
    order = torch.tensor([2, 0, 1])
    turned = batch._replace(token_ids=batch.token_ids[order])
    (second,) = select_in_batch(maps[order], turned, judge, CONFIG)
    assert int(order[second.row]) == first.row
