"""MABP as a whole: whose verdict counts, and which weights decay."""

import dataclasses

import pytest
import torch

from configs.segmenter import mabp_grefcoco_unc
from tests.contract.test_contract_segmenters import make_batch
from tris.segmenters.mabp import MabpConfig

TINY: MabpConfig = mabp_grefcoco_unc.get_debug_config()


@pytest.mark.parametrize(
    ("rule", "head"), [("any", slice(None)), ("first", slice(1)), ("last", slice(-1, None))]
)
def test_the_rule_says_which_heads_verdict_counts(rule, head):
    torch.manual_seed(0)
    network = dataclasses.replace(TINY, no_target_rule=rule).build(pretrained=False).eval()
    output = network(make_batch(network))
    there, nothing = output.extras["no_target_logits"].unbind(dim=-1)
    assert torch.equal(output.no_target_logit, (nothing - there)[head].amax(dim=0))


def test_norms_and_position_biases_do_not_decay_except_in_the_text_encoder():
    network = TINY.build(pretrained=False)
    decays = {
        id(parameter): group.weight_decay is None
        for group in network.parameter_groups()
        for parameter in group.parameters
    }
    found = {name: decays[id(p)] for name, p in network.named_parameters() if id(p) in decays}
    norms = {name for name in found if "norm" in name.lower()}
    biases = {name for name in found if "relative_position_bias_table" in name}
    of_words = {name for name in found if name.startswith("words.")}
    assert norms & of_words
    assert norms - of_words
    assert biases
    assert not any(found[name] for name in (norms | biases) - of_words)
    assert all(found[name] for name in of_words)
