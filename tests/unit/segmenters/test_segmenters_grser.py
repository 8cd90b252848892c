import dataclasses

import pytest
import torch

from configs.segmenter import grser_synthetic
from tris.batch import Batch, InputSpec
from tris.errors import InputError
from tris.segmenters.contract import Segmenter
from tris.segmenters.grser import network as network_module
from tris.segmenters.grser.network import empty_masks

N, SIZE, TOKENS = 5, (40, 48), 8


def make_network(**changes):
    torch.manual_seed(0)
    config = dataclasses.replace(grser_synthetic.get_debug_config(), **changes)
    return config.build().eval()


def make_group(n=N, *, group=1, seed=0):
    """One sentence about n photographs, the second half of which do not show it."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(n)
    ids = torch.tensor([2, 30, 31, 32, 3, 0, 0, 0]).expand(n, TOKENS).clone()
    is_negative = rows >= (n + 1) // 2
    targets = (torch.rand(n, *SIZE, generator=generator) > 0.7) & ~is_negative[:, None, None]
    return Batch(
        images=torch.randn(n, 3, *SIZE, generator=generator),
        image_id=rows + 11,
        original_size=torch.tensor([SIZE] * n),
        content_size=torch.tensor([SIZE] * n),
        token_ids=ids,
        token_mask=ids > 0,
        image_index=rows,
        referent_id=rows,
        expression_id=rows,
        text_id=torch.full((n,), 5),
        is_no_target=is_negative,
        group_index=torch.full((n,), group),
        targets=targets.to(torch.uint8),
    )


def reorder(batch, order):
    """List the pairs (and photographs) in another order."""
    moved = {
        name: value[order]
        for name, value in batch._asdict().items()
        if value is not None and name != "image_index"
    }
    return batch._replace(**moved)


@pytest.mark.parametrize("ranking", ["both", "random"])
def test_what_is_said_of_a_photograph_does_not_depend_on_the_order_of_its_group(ranking):
    network, batch = make_network(ranking=ranking), make_group()
    order = torch.tensor([3, 0, 4, 2, 1])
    expected, shuffled = network(batch), network(reorder(batch, order))
    torch.testing.assert_close(shuffled.mask_logits, expected.mask_logits[order], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        shuffled.no_target_logit, expected.no_target_logit[order], atol=1e-4, rtol=0
    )


def test_the_group_is_looked_at():
    network, batch = make_network(), make_group()
    alone = batch._replace(group_index=torch.zeros(N, dtype=torch.long))
    assert not torch.allclose(network(batch).mask_logits, network(alone).mask_logits)


def test_two_groups_in_a_batch_do_not_touch_each_other():
    network = make_network()
    first, second = make_group(3), make_group(4, group=2, seed=1)
    expected = torch.cat([network(first).mask_logits, network(second).mask_logits])
    logits = network(join(first, second)).mask_logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n", [1, 2, 11])
def test_a_group_has_any_number_of_photographs(n):
    output = make_network()(make_group(n))
    assert output.mask_logits.shape == (n, *SIZE)
    assert output.no_target_logit.isfinite().all()


def test_a_pair_is_positive_where_the_text_is_nearer_by_the_margin():
    for margin in (0.5, -3.0):
        output = make_network(inference_margin=margin)(make_group())
        is_positive = output.extras["to_text"] + margin < output.extras["to_anti_text"]
        assert torch.equal(output.no_target_logit <= 0, is_positive)


def test_masks_of_negatives_are_empty_in_evaluation_and_left_alone_in_training():
    network, batch = make_network(inference_margin=100.0), make_group()
    assert not (network(batch).mask_logits > 0).any()
    assert (network.train()(batch).mask_logits > 0).any()


def test_emptying_keeps_the_peak_and_the_other_masks():
    logits = torch.tensor([[[3.0, 1.0]], [[2.0, 5.0]]])
    emptied = empty_masks(logits, torch.tensor([False, True]))
    assert torch.equal(emptied[0], logits[0])
    assert (emptied[1] < 0).all()
    assert emptied[1].argmax() == 1


def test_the_triplet_loss_grows_with_the_progress():
    network, batch = make_network().train(), make_group()
    output = network(batch)
    whole = network.loss(output, batch)["triplet_loss"]
    network.set_progress(0.25)
    torch.testing.assert_close(network.loss(output, batch)["triplet_loss"], 0.25 * whole)
    constant = make_network(weighs_triplet_by_progress=False).train()
    constant.set_progress(0.25)
    torch.testing.assert_close(constant.loss(output, batch)["triplet_loss"], whole)


def test_negative_pairs_count_in_the_triplet_loss_alone():
    network, batch = make_network(has_mirror_training=False).train(), make_group()
    output = network(batch)
    noise = torch.randn_like(output.mask_logits) * batch.is_no_target[:, None, None]
    disturbed = output._replace(mask_logits=output.mask_logits + noise)
    assert torch.equal(
        network.loss(disturbed, batch)["mask_loss"], network.loss(output, batch)["mask_loss"]
    )
    turned = batch._replace(is_no_target=~batch.is_no_target)
    assert (
        network.loss(output, turned)["triplet_loss"] != network.loss(output, batch)["triplet_loss"]
    )


def test_masks_of_negatives_are_not_decoded_in_training():
    network, batch = make_network().train(), make_group()
    everyone = network(batch._replace(is_no_target=torch.zeros(N, dtype=torch.bool)))
    logits, is_positive = network(batch).mask_logits, ~batch.is_no_target
    expected = everyone.mask_logits[is_positive]
    torch.testing.assert_close(logits[is_positive], expected, atol=1e-5, rtol=0)
    assert not logits[batch.is_no_target].any()


def join(first, second):
    pairs = zip(first, second, strict=True)
    joined = Batch(*(None if one is None else torch.cat([one, other]) for one, other in pairs))
    return joined._replace(image_index=torch.arange(len(joined.token_ids)))


def gradients(network, batch):
    network.zero_grad()
    torch.stack(list(network.loss(network(batch), batch).values())).sum().backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def make_frozen_network():
    """In training, but for batch norm, which would see half batches."""
    network = make_network().train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return network


def test_groups_shared_out_over_two_processes_give_the_gradients_of_one():
    network, parts = make_frozen_network(), [make_group(4), make_group(4, group=2, seed=1)]
    whole = gradients(network, join(*parts))
    shares = [gradients(network, part) for part in parts]
    for name, expected in whole.items():
        mean = (shares[0][name] + shares[1][name]) / 2
        torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-3)


def test_processes_with_unequal_numbers_of_positives_give_the_gradients_of_one(monkeypatch):
    """As with an odd N: 3 positives of 5 pairs beside 1 of 2."""
    network, parts = make_frozen_network(), [make_group(5), make_group(2, group=2, seed=1)]
    whole = gradients(network, join(*parts))
    totals = {5: 7, 2: 7, 3: 4, 1: 4}

    def share(count, *, like):
        return 2 * count / totals[count]

    monkeypatch.setattr(network_module, "relative_share", share)
    means = {name: torch.zeros_like(each) for name, each in whole.items()}
    for part in parts:
        weight = share(len(part.token_ids), like=None) / 2
        for name, gradient in gradients(network, part).items():
            means[name] += weight * gradient
    for name, expected in whole.items():
        torch.testing.assert_close(means[name], expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"input_spec": InputSpec()}, "group_size"),
        ({"margin": -1.0}, "margin"),
        ({"heatmap_weight": 1.0, "has_language_heatmap": False}, "heatmap_weight"),
    ],
)
def test_odd_settings_are_refused(changes, name):
    with pytest.raises(InputError, match=name):
        make_network(**changes)


def test_the_visual_features_that_are_queried_are_signed():
    """Behind a rectifier all cells, and so all experts, would point one way."""
    network = make_network()
    kept = []
    network.queries.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    network(make_group())
    assert (kept[0] < 0).float().mean() > 0.2


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ({"has_triplet_loss": False}, {"mask_loss", "mirror_loss"}),
        ({"heatmap_weight": 0.3}, {"mask_loss", "mirror_loss", "triplet_loss", "heatmap_loss"}),
        ({"has_mirror_training": False}, {"mask_loss", "triplet_loss"}),
        ({"has_vision_heatmaps": False}, {"mask_loss", "mirror_loss", "triplet_loss"}),
        ({"has_language_heatmap": False}, {"mask_loss", "mirror_loss", "triplet_loss"}),
    ],
)
def test_ablations_train_every_weight_that_they_keep(changes, terms):
    network, batch = make_network(**changes).train(), make_group()
    losses = network.loss(network(batch), batch)
    assert set(losses) == terms
    torch.stack(list(losses.values())).sum().backward()
    assert not [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]


def test_without_the_triplet_loss_nothing_is_recognised_as_negative():
    output = make_network(has_triplet_loss=False)(make_group())
    assert output.no_target_logit is None


def test_without_heatmaps_of_the_group_it_is_not_looked_at():
    network, batch = make_network(has_vision_heatmaps=False), make_group()
    alone = batch._replace(group_index=torch.zeros(N, dtype=torch.long))
    torch.testing.assert_close(network(batch).mask_logits, network(alone).mask_logits)


def test_another_order_at_test_time_changes_the_result():
    network, batch = make_network(), make_group()
    expected = network(batch).mask_logits
    network.config = dataclasses.replace(network.config, evaluation_ranking="random")
    assert not torch.allclose(network(batch).mask_logits, expected)


def test_the_model_directory_knows_prefix_and_group_size(tmp_path):
    network = make_network()
    network.save_pretrained(tmp_path / "model")
    loaded = Segmenter.from_pretrained(tmp_path / "model")
    assert loaded.config.anti_prefix == network.config.anti_prefix
    assert loaded.input_spec.group_size == network.input_spec.group_size
