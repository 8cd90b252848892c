"""Which weights learn how fast, and which decay."""

from torch import nn

from tris.model_directory import ParameterGroup

_WITHOUT_DECAY = (
    nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.InstanceNorm2d, nn.Embedding,
)  # fmt: skip
_POSITION_BIAS = "relative_position_bias_table"
_TEXT_ENCODER = "words."
_ENCODERS = (_TEXT_ENCODER, "encoder.backbone.")


def parameter_groups(network: nn.Module, *, encoder_scale: float) -> list[ParameterGroup]:
    """Return every trainable weight once, by encoder or not, decaying or not.

    Args:
        network: Has its text encoder at ``words``, its vision encoder at ``encoder.backbone``.
        encoder_scale: Factor on the learning rate of both.
    """
    groups = {
        (is_encoder, decays): ParameterGroup(
            ("encoder" if is_encoder else "heads") + ("" if decays else "_without_decay"),
            [],
            encoder_scale if is_encoder else 1.0,
            None if decays else 0.0,
        )
        for is_encoder in (True, False)
        for decays in (True, False)
    }
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                full = f"{module_name}.{name}"
                decays = full.startswith(_TEXT_ENCODER) or not (
                    isinstance(module, _WITHOUT_DECAY) or name == _POSITION_BIAS
                )
                groups[full.startswith(_ENCODERS), decays].parameters.append(parameter)
    return [group for group in groups.values() if group.parameters]
