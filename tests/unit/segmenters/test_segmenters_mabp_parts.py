"""The parts of MABP, each against its equation or worked out by hand."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from tris.batch import IGNORE_INDEX
from tris.errors import InputError
from tris.layers.attention import AttentionBlock
from tris.layers.language_fusion import LanguageFusion, LanguageGate
from tris.segmenters.mabp.decoder import DecoderConfig, RegionDecoder, visible_cells
from tris.segmenters.mabp.losses import (
    LossConfig,
    mask_cross_entropy,
    mask_dice,
    no_target_cross_entropy,
    soft_targets,
    uncertainty,
)
from tris.segmenters.mabp.query_generator import QueryGenerator
from tris.segmenters.mabp.regional_head import RegionalHead
from tris.segmenters.mabp.regions import RegionGrid, quadruple

TINY = DecoderConfig(
    dim=8, num_attention_heads=2, feedforward_dim=8, layers_per_level=1, num_regions=4
)
PLAIN = LossConfig(positive_weight=1.0, has_entropy_weights=False)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class TestRegions:
    @pytest.mark.parametrize(
        ("side", "regions", "window", "padding"),
        [(15, 16, 4, (0, 1)), (30, 64, 4, (1, 1)), (60, 256, 4, (2, 2)), (120, 256, 8, (4, 4))],
    )
    def test_windows_at_480_pixels_are_the_released_ones(self, side, regions, window, padding):
        grid = RegionGrid.over((side, side), regions)
        assert (grid.window_height, grid.window_width) == (window, window)
        assert grid.padding == (*padding, *padding)

    @pytest.mark.parametrize("size", [(15, 15), (7, 12), (1, 3), (12, 4)])
    @pytest.mark.parametrize("is_tight", [True, False])
    def test_merging_undoes_partitioning(self, size, is_tight):
        grid = RegionGrid.over(size, 16, is_tight=is_tight)
        features = torch.randn(2, 3, *size)
        windows = grid.partition(features)
        assert windows.shape[:2] == (2, 16)
        for channel in range(3):
            assert torch.equal(grid.merge(windows[..., channel]), features[:, channel])

    @pytest.mark.parametrize("size", [(15, 15), (7, 12), (1, 3)])
    def test_every_cell_belongs_to_the_region_whose_window_holds_it(self, size):
        grid = RegionGrid.over(size, 16)
        numbers = torch.arange(16.0)[:, None].expand(16, grid.window_height * grid.window_width)
        owner = grid.merge(numbers[None])[0].flatten()
        membership = grid.membership(owner.device)
        assert torch.equal(membership.float().argmax(dim=0).float(), owner)
        assert (membership.sum(dim=0) == 1).all()

    def test_tight_windows_cover_a_divisible_map_without_padding(self):
        assert RegionGrid.over((12, 12), 9, is_tight=True).padding == (0, 0, 0, 0)
        assert RegionGrid.over((12, 12), 9).padding == (1, 2, 1, 2)

    def test_a_quartered_region_hands_its_query_to_all_four(self):
        queries = torch.arange(4.0)[None, :, None]
        expected = [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]
        assert quadruple(queries)[0, :, 0].tolist() == expected


class TestQueryGenerator:
    def test_queries_gather_words_without_softmax(self):
        generator = QueryGenerator(8, 6, 4)
        words, mask = torch.randn(2, 5, 6), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
        queries, values = generator(words, mask)
        regions = functional.layer_norm(generator.query(generator.regions.weight), (8,))
        for row, length in enumerate((5, 2)):
            keys, own = generator.key(words[row, :length]), generator.value(words[row, :length])
            expected = generator.output(regions @ keys.T / 8**0.5 @ own)
            torch.testing.assert_close(queries[row], expected)
            torch.testing.assert_close(values[row, :length], own)
        assert not values[1, 2:].any()

    def test_without_words_queries_are_the_same_for_all_sentences(self):
        generator = QueryGenerator(8, 6, 4, has_words=False)
        queries, _ = generator(torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
        assert torch.equal(queries[0], queries[1])


class TestRegionalHead:
    def test_a_query_draws_in_its_own_window_alone(self):
        head, grid = RegionalHead(8, 4, 5), RegionGrid.over((6, 6), 4, is_tight=True)
        features, queries = torch.randn(1, 8, 6, 6), torch.randn(1, 4, 8)
        other = queries.clone()
        other[0, 3] = torch.randn(8)
        masks = [
            head.draw(head.embed(each), grid.partition(features), grid) for each in (queries, other)
        ]
        differs = masks[0] != masks[1]
        assert differs[0, 3:, 3:].all()
        assert differs.sum() == 9

    def test_a_naive_head_averages_the_masks_of_all_queries(self):
        head = RegionalHead(8, 4, 5, is_regional=False)
        grid = RegionGrid.over((6, 6), 4, is_tight=True)
        features, queries = torch.randn(1, 8, 6, 6), torch.randn(1, 4, 8)
        embeddings = head.embed(queries)
        expected = torch.einsum("bnc,bchw->bnhw", embeddings, features).mean(dim=1)
        drawn = head.draw(embeddings, grid.partition(features), grid)
        torch.testing.assert_close(drawn, expected)


class TestVisibility:
    membership = torch.tensor([[True, False, False], [False, True, False]])

    def test_a_query_sees_the_foreground_and_its_own_window(self):
        visible = visible_cells(torch.tensor([[[-1.0, -1.0, 1.0]]]), self.membership, num_regions=2)
        assert visible.tolist() == [[[True, False, True], [False, True, True]]]

    def test_a_query_that_would_see_nothing_sees_everything(self):
        visible = visible_cells(torch.full((1, 1, 3), -1.0), None, num_regions=2)
        assert visible.all()


class TestAttention:
    def test_equals_the_attention_of_torch(self):
        block, reference = AttentionBlock(8, 2), torch.nn.MultiheadAttention(8, 2, batch_first=True)
        reference.in_proj_weight.data = block.input.weight.data
        reference.out_proj.weight.data = block.output.weight.data
        queries, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
        places, keys = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
        visible = torch.rand(2, 3, 5) > 0.5
        visible[..., 0] = True
        attended, _ = reference(
            queries + places, memory + keys, memory, attn_mask=~visible.repeat_interleave(2, dim=0)
        )
        output = block(queries, memory, query_positions=places, key_positions=keys, visible=visible)
        torch.testing.assert_close(output, functional.layer_norm(queries + attended, (8,)))


class TestLanguageFusion:
    def test_equals_the_published_equations(self):
        fusion, index = LanguageFusion(4, 6), torch.tensor([1, 0, 1])
        features, words = torch.randn(2, 4, 3, 5), torch.randn(3, 7, 6)
        mask = torch.arange(7) < torch.tensor([[7], [2], [4]])
        fused = fusion(features, words, mask, map_index=index)
        for row, image in enumerate(index.tolist()):
            own, said = features[image : image + 1], words[row, mask[row]]
            queries = functional.instance_norm(fusion.query(own)).flatten(2)[0].T
            weights = (queries @ fusion.key(said).T / 4**0.5).softmax(dim=1)
            gathered = (weights @ fusion.value(said)).T.reshape(1, 4, 3, 5)
            gathered = functional.instance_norm(fusion.gathered(gathered))
            product = functional.gelu(fusion.visual(own)) * gathered
            expected = functional.gelu(fusion.output(product))
            torch.testing.assert_close(fused[row : row + 1], expected, atol=1e-5, rtol=1e-4)

    def test_the_gate_starts_nearly_closed(self):
        features = torch.randn(1, 4, 3, 3)
        assert LanguageGate(4)(features).abs().max() < 0.05 * features.abs().max()


class TestDecoder:
    @pytest.mark.parametrize("size", [(16, 16), (11, 20), (3, 5)])
    def test_masks_have_the_sizes_of_the_maps(self, size):
        decoder, (height, width) = RegionDecoder(TINY, word_dim=6, num_tokens=5), size
        maps = [torch.randn(2, 8, height * scale, width * scale) for scale in (1, 2, 4)]
        finest = torch.randn(2, 8, 8 * height, 8 * width)
        output = decoder(maps, finest, torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))
        sizes = [mask.shape[1:] for mask in output.mask_logits]
        assert sizes == [each.shape[2:] for each in [*maps, finest]]
        assert [each.shape for each in output.no_target_logits] == [(2, 2)] * 4

    @pytest.mark.parametrize(
        "changes",
        [
            {"has_regional_supervision": False},
            {"has_words_in_cross_attention": False},
            {"has_words_in_self_attention": False},
            {"has_words_in_cross_attention": False, "has_words_in_self_attention": False,
             "num_no_target_heads": 0},
            {"has_query_generator": False},
            {"has_masked_attention": False},
            {"num_mask_heads": 1},
            {"num_mask_heads": 1, "num_no_target_heads": 1},
            {"num_no_target_heads": 0},
            {"num_regions": 9, "layers_per_level": 2},
        ],
        ids=lambda changes: "-".join(changes),
    )  # fmt: skip
    def test_every_ablation_trains_all_that_is_not_frozen(self, changes):
        config = dataclasses.replace(TINY, **changes)
        decoder = RegionDecoder(config, word_dim=6, num_tokens=5)
        maps = [torch.randn(2, 8, side, side) for side in (3, 6, 12)]
        output = decoder(
            maps,
            torch.randn(2, 8, 24, 24),
            torch.randn(2, 5, 6),
            torch.ones(2, 5, dtype=torch.bool),
        )
        assert len(output.no_target_logits) == config.num_no_target_heads
        supervised = output.mask_logits[4 - config.num_mask_heads :] + output.no_target_logits
        sum(each.square().mean() for each in supervised).backward()
        unreached = [
            name for name, p in decoder.named_parameters() if p.requires_grad and p.grad is None
        ]
        assert not unreached

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("num_regions", 8), ("num_mask_heads", 0), ("num_no_target_heads", 5),
            ("layers_per_level", 0),
        ],
    )  # fmt: skip
    def test_a_number_out_of_range_is_a_sentence(self, field, value):
        with pytest.raises(InputError, match=f"{field} is {value}"):
            dataclasses.replace(TINY, **{field: value})

    def test_heads_that_do_not_divide_the_channels_are_a_sentence(self):
        with pytest.raises(InputError, match="num_attention_heads must divide dim"):
            dataclasses.replace(TINY, num_attention_heads=7)


class TestLosses:
    def test_uncertain_pixels_weigh_three_times_as_much_as_certain_ones(self):
        weights = uncertainty(torch.tensor([0.0, 20.0, -20.0]))
        torch.testing.assert_close(weights, torch.tensor([1.5, 0.5, 0.5]), atol=1e-4, rtol=0.0)

    def test_cross_entropy_weighs_foreground_and_uncertainty(self):
        logits, targets = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])
        value = mask_cross_entropy(logits, targets, torch.ones(1, 1, 2), LossConfig())
        expected = 1.5 * torch.log(torch.tensor(2.0)) * (1.1 + 1) / 2
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)

    def test_dice_of_an_empty_target_and_an_empty_prediction_is_zero(self):
        zeros = torch.zeros(1, 4, 4)
        assert mask_dice(zeros - 30, zeros, zeros + 1).abs() < 1e-6

    def test_dice_by_hand(self):
        targets = torch.zeros(1, 4, 4)
        targets[:, :2] = 1
        value = mask_dice(torch.full((1, 4, 4), 30.0), targets, torch.ones(1, 4, 4))
        torch.testing.assert_close(value, torch.tensor(1 - 17 / 25))

    def test_coarse_targets_are_interpolated(self):
        targets = torch.zeros(1, 4, 4, dtype=torch.uint8)
        targets[0, 0, 0] = 1
        soft, known = soft_targets(targets, (2, 2))
        assert soft[0].tolist() == [[0.25, 0.0], [0.0, 0.0]]
        assert known.eq(1).all()

    def test_ignored_pixels_take_no_part_in_coarse_targets(self):
        targets = torch.zeros(1, 4, 4, dtype=torch.uint8)
        targets[0, 0, 0] = 1
        targets[0, 1, :2] = IGNORE_INDEX
        targets[0, 2:, 2:] = IGNORE_INDEX
        soft, known = soft_targets(targets, (2, 2))
        assert soft[0, 0].tolist() == [0.5, 0.0]
        assert known[0].tolist() == [[0.5, 1.0], [1.0, 0.0]]

    def test_an_expression_without_a_known_pixel_adds_nothing(self):
        logits = torch.randn(1, 4, 4, requires_grad=True)
        zeros = torch.zeros(1, 4, 4)
        value = mask_cross_entropy(logits, zeros, zeros, PLAIN) + mask_dice(logits, zeros, zeros)
        value.backward()
        assert value == 0
        assert not logits.grad.any()

    def test_no_target_loss_is_the_weighted_mean_over_heads_and_expressions(self):
        logits = torch.zeros(3, 2, 2)
        value = no_target_cross_entropy(logits, torch.tensor([True, False]), LossConfig())
        torch.testing.assert_close(value, torch.log(torch.tensor(2.0)))
