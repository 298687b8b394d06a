"""Presets: names for kinds of layers, whatever a family of networks calls them. Imports no torch.

The families whose names are known: diffusers' UNet2DModel, UNet2DConditionModel, DiTTransformer2DModel,
SD3Transformer2DModel and FluxTransformer2DModel, and transformers' CLIP and T5 text encoders and ViT.
"""

from __future__ import annotations

# Each in the order: diffusers, CLIP and transformers 5's ViT, T5, transformers 4's ViT. A bare "q" or "query" could be
# anything, so that those carry their module's name.
_Q = ("to_q", "q_proj", "SelfAttention.q", "EncDecAttention.q", "attention.query")
_K = ("to_k", "k_proj", "SelfAttention.k", "EncDecAttention.k", "attention.key")
_V = ("to_v", "v_proj", "SelfAttention.v", "EncDecAttention.v", "attention.value")
_OUT = (
    "to_out.0", "out_proj", "o_proj", "SelfAttention.o", "EncDecAttention.o", "attention.output.dense",
)  # fmt: skip
_ADDED = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""Projections of the second stream (the text) of joint attention."""
_MLP = (
    "ff.net.0.proj",
    "ff.net.2",
    "ff_context.net.0.proj",
    "ff_context.net.2",
    # Flux's single blocks have one output projection for attention and MLP together: it counts as the MLP's.
    "single_transformer_blocks.*.proj_mlp",
    "single_transformer_blocks.*.proj_out",
    "mlp.fc1",
    "mlp.fc2",
    # transformers 4's ViT; its attention's own output is "attention.output.dense".
    "layer.*.intermediate.dense",
    "layer.*.output.dense",
    "DenseReluDense.wi",
    "DenseReluDense.wi_0",
    "DenseReluDense.wi_1",
    "DenseReluDense.wo",
)

ALL_LINEAR = "all-linear"
PRESETS: dict[str, tuple[str, ...]] = {
    "qv": (*_Q, *_V),
    "qk": (*_Q, *_K),
    "vo": (*_V, *_OUT),
    "qkvo": (*_Q, *_K, *_V, *_OUT),
    "attention": (*_Q, *_K, *_V, *_OUT, *_ADDED),
    "attention+mlp": (*_Q, *_K, *_V, *_OUT, *_ADDED, *_MLP),
    ALL_LINEAR: ("**",),  # every name; that the layer is a Linear is not in its name
}
"""{preset: the patterns it stands for}."""
