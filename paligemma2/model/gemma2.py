"""The decoder: Gemma 2 (arXiv:2408.00118, section 2; big_vision `models/proj/gemma/gemma.py`).

Module names are Hugging Face's, so that a state dict is a checkpoint.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.errors import ConfigError
from paligemma2.model import recomputed
from paligemma2.model.cache import KVCache
from paligemma2.model.config import Recomputation, TextConfig
from paligemma2.model.piecewise import Piecewise, finish
from paligemma2.model.prefix_mask import Examples
from paligemma2.model.recomputation import run_block
from paligemma2.model.recomputed_attention import recomputed_attention


def soft_cap(logits: Tensor, cap: float | None) -> Tensor:
    """Squash logits smoothly into (-cap, cap): `cap * tanh(logits / cap)` (arXiv:2408.00118, section 2).

    Args:
        logits: any shape, floating point.
        cap: positive limit (50.0 for attention, 30.0 for the output layer), or None to leave them alone.

    Raises:
        ConfigError: `cap` is not positive.
    """
    if cap is None:
        return logits
    if cap <= 0:
        raise ConfigError(f"soft-cap {cap} is not positive", hint="use null in config.json to turn it off")
    return cap * torch.tanh(logits / cap)


def rotary_angles(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions (arXiv:2104.09864), in float32.

    Args:
        positions: int64 [batch, seq].
        head_dim: even; frequencies are `theta ** (-2 i / head_dim)`.
        theta: base, 10000.

    Returns:
        Two tensors [batch, 1, seq, head_dim / 2].
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[:, None, :, None].float() * theta**-exponents
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` [batch, heads, seq, head_dim] turned by its position; first half pairs with second half.

    All three have the same dtype.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


ATTENTION_CHUNK_BYTES = 16 * 2**20
"""Of float32 logits at a time: what stays in a cache, and small beside the weights at 4096 image tokens."""
_FEW_QUERIES = 16


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, *, scale: float, cap: float | None
) -> Tensor:
    """Attention in which several query heads share a key-value head; keys are never expanded.

    Long prompts are read some queries at a time, so that all logits never exist at once.

    Args:
        q: [batch, heads, seq, head_dim].
        k: [batch, kv_heads, keys, head_dim].
        v: [batch, kv_heads, keys, head_dim].
        visible: bool, broadcastable to [batch, 1, seq, keys]; None if every query sees every key.
        scale: factor on the logits before the cap, `query_pre_attn_scalar ** -0.5`.
        cap: soft-cap on the scaled logits, before the mask.

    Returns:
        [batch, seq, heads * head_dim] in the dtype of `v`; logits and softmax are float32.
    """
    batch, heads, seq, _ = q.shape
    size = max(1, ATTENTION_CHUNK_BYTES // (4 * batch * heads * k.shape[2]))
    if seq <= size:
        return _attend(q, k, v, visible, scale, cap)
    parts = []
    for start in range(0, seq, size):
        some = slice(start, start + size)
        is_same_for_all = visible is None or visible.shape[2] == 1
        seen = visible if is_same_for_all or visible is None else visible[:, :, some]
        parts.append(_attend(q[:, :, some], k, v, seen, scale, cap))
    return torch.cat(parts, dim=1)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float, cap: float | None
) -> Tensor:
    batch, heads, seq, head_dim = q.shape
    kv_heads, keys = k.shape[1], k.shape[2]
    grouped = q.reshape(batch, kv_heads, -1, head_dim)  # [batch, kv_heads, group * seq, head_dim]
    if grouped.shape[2] <= _FEW_QUERIES:  # or the keys would be copied to be turned
        products = (k @ grouped.transpose(2, 3)).transpose(2, 3)
    else:
        products = grouped @ k.transpose(2, 3)
    logits = soft_cap(products.float() * scale, cap)
    if visible is not None:
        logits = logits.view(batch, kv_heads, heads // kv_heads, seq, keys)
        # A finite minimum: a padding query sees nothing, and -inf would turn its row into NaN.
        logits = logits.masked_fill(~visible[:, :, None], torch.finfo(torch.float32).min)
    weights = logits.softmax(dim=-1).to(v.dtype).view(batch, kv_heads, -1, keys)
    attended = (weights @ v).view(batch, heads, seq, head_dim)
    return attended.transpose(1, 2).reshape(batch, seq, heads * head_dim)


class RMSNorm(nn.Module):
    """`x / rms(x) * (1 + weight)` in float32, in the dtype of `x`; in training in that of products."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to the same shape."""
        if torch.is_grad_enabled():
            return recomputed.rms_norm(x, self.weight, self.eps)
        scale = 1.0 + self.weight.float()
        return F.rms_norm(x.float(), (x.shape[-1],), scale, self.eps).to(x.dtype)


class GemmaAttention(nn.Module):
    """Grouped-query attention with rotary positions and a soft-cap."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.scale = config.query_pre_attn_scalar**-0.5
        self.cap = config.attention_cap
        width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        visible: Tensor | None,
        cache: KVCache | None,
        examples: Examples | None = None,
    ) -> Tensor:
        """[batch, seq, width] to the same shape; new keys and values go into `cache` if there is one.

        With wanted tokens, which exist in training only, it gives [1, wanted tokens, width].
        """
        if torch.is_grad_enabled() and cache is None:
            return self._for_training(x, angles, visible, examples or Examples())
        q, k, v = (
            linear(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [batch, heads, seq, head_dim]
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, *angles), rotate(k, *angles)
        if cache is not None:
            k, v = cache.write(self.layer, k, v)
        attended = grouped_attention(q, k, v, visible, scale=self.scale, cap=self.cap)
        return self.o_proj(attended if examples is None else examples.wanted_of(attended))

    def _for_training(
        self, x: Tensor, angles: tuple[Tensor, Tensor], visible: Tensor | None, examples: Examples
    ) -> Tensor:
        q, k, v = (
            linear(each).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for linear, each in ((self.q_proj, examples.wanted_of(x)), (self.k_proj, x), (self.v_proj, x))
        )
        cos, sin = (examples.wanted_of(each[:, 0])[:, None] for each in angles)
        q, k = recomputed.rotate(q, cos, sin), recomputed.rotate(k, *angles)
        attended = recomputed_attention(
            q, k, v, visible, examples.spans, examples.wanted, scale=self.scale, cap=self.cap
        )
        return self.o_proj(attended)


class GemmaMLP(nn.Module):
    """`down(gelu(gate(x)) * up(x))`."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, seq, width] to the same shape."""
        if torch.is_grad_enabled():
            return self.down_proj(recomputed.gated_gelu(self.gate_proj(x), self.up_proj(x)))
        gated = F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x)
        return self.down_proj(gated)


class GemmaLayer(nn.Module):
    """One block, normalised before and after attention and MLP.

    In training, `dropout` is the share of the numbers that are dropped after attention and MLP, each for
    itself: as in big_vision after the norm that follows the attention, and before the one after the MLP.
    """

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.dropout = 0.0
        self.self_attn = GemmaAttention(config, layer)
        self.mlp = GemmaMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.pre_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        visible: Tensor | None,
        cache: KVCache | None,
        examples: Examples | None = None,
    ) -> Tensor:
        """[batch, seq, width] to the same shape, or to [1, wanted tokens, width]."""
        attended = self.self_attn(self.input_layernorm(x), angles, visible, cache, examples)
        if examples is not None:
            x = examples.wanted_of(x)
        x = x + self._drop(self.post_attention_layernorm(attended))
        return x + self.post_feedforward_layernorm(self._drop(self.mlp(self.pre_feedforward_layernorm(x))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


@runtime_checkable
class OutputTable(Protocol):
    """A table of embeddings that is not one matrix, and so is asked for its product."""

    def logits(self, hidden: Tensor) -> Tensor:
        """The product with every row: [..., width] to float32 [..., rows]."""


class GemmaDecoder(nn.Module):
    """Embedding, blocks, final norm; the embedding is also the output layer.

    Its `config` counts the heads that it holds itself: fewer than the model's if processes share them.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.recomputation: Recomputation = "none"
        # Zeros: random numbers on the meta device would import PyTorch's compiler, which takes a second.
        table = torch.zeros(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=table)
        self.layers = nn.ModuleList(GemmaLayer(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def embed(self, token_ids: Tensor, table: Tensor | None = None) -> Tensor:
        """Scaled text embeddings, rounded as their dtype is: int64 [batch, seq] to [batch, seq, width].

        With `table` rows are looked up there instead, and its gradient is sparse.
        """
        looked_up = (
            self.embed_tokens(token_ids) if table is None else F.embedding(token_ids, table, sparse=True)
        )
        x: Tensor = looked_up
        if self.config.round_embedding_scale:
            x = x * torch.tensor(self.config.scale, dtype=x.dtype, device=x.device)
        else:
            x = (x.float() * self.config.scale).to(x.dtype)
        return x.to(self.norm.weight.dtype)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        visible: Callable[[int | None], Tensor | None],
        cache: KVCache | None = None,
        examples: Examples | None = None,
    ) -> Tensor:
        """Embeddings to normalised hidden states.

        Args:
            x: [batch, seq, width], image and text embeddings in place.
            positions: int64 [batch, seq].
            visible: given a sliding window (or None), the mask, bool [batch, 1, seq, keys], or None if every
                token sees every other.
            cache: where to store keys and values, or None.
            examples: where the examples are, and which of their tokens are wanted; None relies on the mask
                alone.

        Returns:
            [batch, seq, width] after the final norm, or [1, wanted tokens, width].
        """
        return finish(self.in_pieces(x, positions, visible, cache, examples))

    def in_pieces(
        self,
        x: Tensor,
        positions: Tensor,
        visible: Callable[[int | None], Tensor | None],
        cache: KVCache | None = None,
        examples: Examples | None = None,
    ) -> Piecewise[Tensor]:
        """`forward`, layer by layer."""
        cos, sin = rotary_angles(positions, self.config.head_dim, self.config.rope_theta)
        angles = (cos.to(x.dtype), sin.to(x.dtype))
        windows = [self.config.window_of_layer(layer) for layer in range(self.config.num_layers)]
        masks = {window: visible(window) for window in set(windows)}
        last = len(self.layers) - 1
        for number, (layer, window) in enumerate(zip(self.layers, windows, strict=True)):
            # What a token is after the last block matters to no other token.
            some = examples if examples is None or number == last else examples.unasked()
            x = run_block(layer, self.recomputation, x, angles, masks[window], cache, some)
            yield
        normalised: Tensor = self.norm(x)
        return normalised

    def logits(self, hidden: Tensor) -> Tensor:
        """Output logits, capped if the configuration says so: [..., width] to float32 [..., vocab]."""
        table: nn.Module = self.embed_tokens
        if isinstance(table, OutputTable):
            return soft_cap(table.logits(hidden), self.config.final_cap)
        return soft_cap(F.linear(hidden, self.embed_tokens.weight).float(), self.config.final_cap)
