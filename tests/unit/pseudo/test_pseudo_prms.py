import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tris.errors import InputError
from tris.pseudo.prms import (
    PrmsConfig,
    batched_map_similarity,
    map_similarity,
    pick_positive_map,
    select_positive_map,
)


def embed_by_colour(images):
    return images.mean(dim=(2, 3))


def similarity_of(logits, image, texts, **changes):
    return map_similarity(
        torch.as_tensor(logits, dtype=torch.float32),
        torch.as_tensor(image, dtype=torch.float32),
        torch.as_tensor(texts, dtype=torch.float32),
        embed_images=embed_by_colour,
        image_size=(4, 4),
        config=PrmsConfig(**changes),
    )


@pytest.fixture
def left_red_right_green():
    image = torch.zeros(3, 4, 4)
    image[0, :, :2] = 1.0
    image[1, :, 2:] = 1.0
    return image


def test_the_map_that_agrees_with_most_sentences_is_chosen():
    maps = torch.arange(3.0)[:, None, None].expand(3, 2, 2)
    similarity = torch.tensor([[0.1, 0.2, 0.1], [0.3, 0.1, 0.2], [0.2, 0.2, 0.0]])
    assert select_positive_map(maps, similarity).tolist() == maps[1].tolist()


def test_ties_go_to_the_first_expression():
    chosen = pick_positive_map(torch.tensor([[0.1, 0.1], [0.2, 0.0], [0.0, 0.2]])[:2])
    assert chosen.position == 0
    assert chosen.score == pytest.approx(0.2)


def test_a_single_expression_wins_alone():
    assert pick_positive_map(torch.tensor([[-0.5]])).position == 0


def test_a_referent_without_expressions_is_refused():
    with pytest.raises(InputError, match="at least one"):
        pick_positive_map(torch.zeros(0, 0))


def test_the_greatest_score_wins_even_below_minus_one():
    assert pick_positive_map(torch.tensor([[-0.9, -0.9], [-0.8, -0.7]])).position == 1


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(InputError, match="not numbers"):
        pick_positive_map(torch.full((2, 2), float("nan")))


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(4)), st.integers(0, 2**16))
def test_the_choice_follows_a_permutation_of_the_expressions(order, seed):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.rand(4, 4, generator=generator)
    permuted = similarity[order][:, order]
    assert order[pick_positive_map(permuted).position] == pick_positive_map(similarity).position


def test_the_image_is_seen_only_where_the_map_is_positive(left_red_right_green):
    logits = torch.full((2, 4, 4), -5.0)
    logits[0, :, :2] = 3.0
    logits[1, :, 2:] = 3.0
    texts = [[1.0, 0.0, 0.0], [0.0, 7.0, 0.0]]
    similarity = similarity_of(logits, left_red_right_green, texts)
    torch.testing.assert_close(similarity, torch.eye(2))


def test_similarity_does_not_depend_on_the_length_of_text_features(left_red_right_green):
    logits, texts = torch.rand(2, 4, 4), torch.rand(2, 3)
    short = similarity_of(logits, left_red_right_green, texts)
    long = similarity_of(logits, left_red_right_green, 9 * texts)
    torch.testing.assert_close(short, long)


def test_sigmoid_lets_negative_responses_through_and_relu_does_not(left_red_right_green):
    logits = torch.full((1, 4, 4), -1.0)
    texts = [[1.0, 1.0, 0.0]]
    assert similarity_of(logits, left_red_right_green, texts, activation="relu").item() == 0
    seen = similarity_of(logits, left_red_right_green, texts, activation="sigmoid").item()
    assert seen == pytest.approx(1, abs=1e-5)


def test_small_maps_are_stretched_over_the_image_with_aligned_corners(left_red_right_green):
    logits = torch.tensor([[[0.0, 3.0]]])
    similarity = similarity_of(logits, left_red_right_green, [[0.0, 1.0, 0.0]])
    # Columns weigh 0, 1, 2, 3: red 0 + 1, green 2 + 3.
    assert similarity.item() == pytest.approx(5 / 26**0.5, abs=1e-5)


def test_referents_of_several_images_in_small_passes_equal_each_alone():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, 5, generator=generator)
    images = torch.rand(3, 3, 8, 8, generator=generator)
    texts = torch.randn(6, 3, generator=generator)
    image_index, lengths = torch.tensor([2, 2, 2, 0, 1, 1]), [3, 1, 2]
    together = batched_map_similarity(
        logits,
        images,
        texts,
        image_index=image_index,
        maps_per_referent=lengths,
        embed_images=embed_by_colour,
        image_size=(4, 4),
        config=PrmsConfig(maps_per_pass=4),
    )
    rows = torch.arange(6).split(lengths)
    for similarity, row in zip(together, rows, strict=True):
        alone = similarity_of(logits[row], images[image_index[row[0]]], texts[row])
        torch.testing.assert_close(similarity, alone)


def test_clip_sees_each_map_once_and_no_more_than_a_pass_at_a_time():
    sizes = []

    def embed(images):
        sizes.append(len(images))
        return embed_by_colour(images)

    batched_map_similarity(
        torch.rand(5, 2, 2),
        torch.rand(1, 3, 4, 4),
        torch.rand(5, 3),
        image_index=torch.zeros(5, dtype=torch.long),
        maps_per_referent=[3, 2],
        embed_images=embed,
        image_size=(4, 4),
        config=PrmsConfig(maps_per_pass=2),
    )
    assert sizes == [2, 2, 1]


def run_with_lengths(lengths, maps=2):
    return batched_map_similarity(
        torch.rand(maps, 2, 2),
        torch.rand(1, 3, 4, 4),
        torch.rand(maps, 3),
        image_index=torch.zeros(maps, dtype=torch.long),
        maps_per_referent=lengths,
        embed_images=embed_by_colour,
        image_size=(4, 4),
        config=PrmsConfig(),
    )


def test_lengths_that_do_not_add_up_are_refused():
    with pytest.raises(InputError, match=r"3 maps were announced .* but 2 came"):
        run_with_lengths([2, 1])


def test_no_maps_at_all_give_empty_matrices():
    assert [matrix.shape for matrix in run_with_lengths([0], maps=0)] == [(0, 0)]


def test_a_pass_of_no_maps_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        PrmsConfig(maps_per_pass=0)
