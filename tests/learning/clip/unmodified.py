"""What a CLIP itself makes of a learned context, by its own ``encode_text`` on the whole prompt."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fedapt_secure.learning.clip.backbone import Backbone


def through_the_model(backbone: Backbone, spoken: Sequence[str], context: Tensor) -> Tensor:
    """Return unit-norm features (M, D), with the context put in where the embedding layer gives its output.

    Args:
        backbone: The CLIP.
        spoken: M class names, as prompts say them.
        context: (M, n_ctx, W), or (n_ctx, W) where it is shared; differentiable.
    """
    count, start = context.shape[-2], backbone.prompt_tokens.start
    rows = [backbone.prompt_tokens.prompt(f"{name}.", count).tokens for name in spoken]
    module = backbone.text_tower.module
    is_own = hasattr(module, "token_embedding")
    layer = module.token_embedding if is_own else module.transformer.get_input_embeddings()

    def put_in(_: object, __: object, embedded: Tensor) -> Tensor:
        own = context.expand(len(rows), -1, -1)
        return torch.cat([embedded[:, :start], own, embedded[:, start + count :]], dim=1)

    hook = layer.register_forward_hook(put_in)
    try:
        return F.normalize(backbone._model.encode_text(torch.tensor(rows), normalize=False), dim=-1)
    finally:
        hook.remove()
