"""Names of the released stage-1 weights, and how they are read."""

RELEASED_PROMPT_NAMES = {
    "visual_query": "v_proj1",
    "visual_key": "v_proj2",
    "visual_value": "v_proj3",
    "text_query": "t_proj1",
    "text_key": "t_proj2",
    "text_value": "t_proj3",
    "visual_output": "v_output",
    "text_output": "t_output",
}

RELEASED_NAMES = {
    "encoder.clip.": "backbone.",
    "visual_projection.": "vis_project.",
    "text_projection.": "lan_project.",
}


def released_key(key: str) -> str:
    """Return the released name of one of `ResponseNet`'s weights.

    >>> released_key("encoder.clip.visual.conv1.weight")
    'backbone.visual.conv1.weight'
    >>> released_key("prompt.text_key.0.bias")
    'attn_fusion.t_proj2.0.bias'
    """
    if key.startswith("prompt."):
        return f"attn_fusion.{released_prompt_key(key.removeprefix('prompt.'))}"
    for own, released in RELEASED_NAMES.items():
        if key.startswith(own):
            return released + key.removeprefix(own)
    return key


def released_prompt_key(key: str) -> str:
    """Return the released name of one of `BilateralPrompt`'s weights."""
    head, _, rest = key.partition(".")
    return f"{RELEASED_PROMPT_NAMES[head]}.{rest}"
