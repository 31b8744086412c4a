"""ViT (Dosovitskiy et al. 2021): a stack over patches of an image. A class vector before them collects the answer.

Legend: B batch, C channels, H height, W width, D d_model, X any size.
"""

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn

from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import make_positions
from lit_transformer.model.stack import Stack

VIT_BASE = TransformerConfig(
    d_model=768, d_ff=3072, num_heads=12, num_layers=12, norm="pre", positions="learned", max_positions=197,
    activation="gelu", attention_bias=True, norm_epsilon=1e-12)  # fmt: skip
"""The base model, for images of 224 x 224 pixels in patches of 16 x 16."""


class ViT(nn.Module):
    """A classifier of square images.

    Args:
        config: The architecture. `max_positions` follows from the next two.
        image_size: Height and width of the images.
        patch_size: Height and width of the patches, which divides `image_size`.
        num_channels: Colors of a pixel.
        num_classes: Classes that the model tells apart.
    """

    def __init__(
        self, config: TransformerConfig, *, image_size: int, patch_size: int, num_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        if patch_size < 1 or image_size < 1 or image_size % patch_size:
            raise UserError(f"patch_size is {patch_size}: image_size {image_size} must be a multiple of it")
        self.config = replace(config, max_positions=(image_size // patch_size) ** 2 + 1)
        self.image_shape = (num_channels, image_size, image_size)
        self.patches = nn.Conv2d(num_channels, config.d_model, kernel_size=patch_size, stride=patch_size)
        self.class_vector = nn.Parameter(torch.randn(config.d_model) * config.d_model**-0.5)
        self.stack, self.head = Stack(self.config, make_positions(self.config)), nn.Linear(config.d_model, num_classes)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """The logits of the classes, B x num_classes."""
        return self.head(self.states(image_BCHW)[:, 0])

    def states(self, image_BCHW: Tensor) -> Tensor:
        """The states of the class vector and of the patches, row by row, B x (1 + patches) x D."""
        if image_BCHW.shape[1:] != self.image_shape:
            raise UserError(f"images are {tuple(image_BCHW.shape[1:])}: this model takes {self.image_shape}")
        patch_BXD = self.patches(image_BCHW).flatten(2).transpose(1, 2)
        return self.stack(torch.cat([self.class_vector.expand(len(patch_BXD), 1, -1), patch_BXD], dim=1), Mask())

    def attention_maps(self, image_BCHW: Tensor, layers: Collection[int] | None = None) -> dict[int, Tensor]:
        """The weights of all heads, B x heads x L x L per layer. `layers` are those to keep, by default all."""
        return self.stack.attention_maps(lambda: self.states(image_BCHW), layers)
