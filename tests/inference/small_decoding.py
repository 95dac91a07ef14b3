"""Scripted answers, a model of a handful of tokens, and the answers of a batch row by row."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from paligemma2.inference.constraints import Constraint, State
from paligemma2.inference.decoding import decode
from paligemma2.inference.engine import Token
from paligemma2.model.config import ModelConfig, TextConfig, VisionConfig
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.processing.processor import ModelInputs
from paligemma2.types import Decoding


@dataclass(frozen=True)
class Script:
    """A grammar of one answer."""

    tokens: tuple[int, ...]
    start: State = (0,)

    @property
    def shortest(self) -> int:
        return len(self.tokens)

    def allowed(self, state: State, remaining: int) -> Tensor:
        return torch.tensor([self.tokens[state[0]]])

    def advance(self, state: State, token: int) -> State:
        assert token == self.tokens[state[0]]
        return (state[0] + 1,)


def answers(
    model: PaliGemma2Model,
    inputs: ModelInputs,
    decoding: Decoding,
    constraints: Sequence[Constraint | None] | None = None,
) -> list[list[Token]]:
    """The tokens of each row, the end token included."""
    steps = decode(model, inputs, decoding, constraints=constraints)
    return [[token for token in row if token is not None] for row in zip(*steps, strict=True)]


def token_ids(rows: Sequence[Sequence[Token]]) -> list[tuple[int, ...]]:
    return [tuple(token.id for token in row) for row in rows]


def model_of(vocab: int, seed: int, scale: float = 0.4) -> PaliGemma2Model:
    """A random model that may produce the ids 0 to `vocab - 1`; 1 ends, 2 begins, `vocab` is `<image>`."""
    config = ModelConfig(
        vision=VisionConfig(image_size=28, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16),
        text=TextConfig(
            vocab_size=vocab + 3,
            hidden_size=16,
            num_layers=2,
            num_heads=2,
            num_kv_heads=1,
            head_dim=8,
            intermediate_size=24,
            query_pre_attn_scalar=8.0,
            final_cap=4.0,
            max_positions=64,
        ),
        image_token_id=vocab,
    )
    model = PaliGemma2Model(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, scale, generator=generator)
    # Signs of both kinds, or the tied output layer would repeat the last token for ever.
    model.language_model.norm.weight.data.normal_(-1.0, 1.0, generator=generator)
    return model


def prompts_of(model: PaliGemma2Model, texts: Sequence[Sequence[int]], seed: int = 0) -> ModelInputs:
    """A picture of noise and `texts[i]` for each row, padded on the left."""
    slots = [model.config.image_token_id] * model.config.num_image_tokens
    rows = [[*slots, model.config.bos_token_id, *text] for text in texts]
    seq = max(map(len, rows))
    ids = torch.tensor([[0] * (seq - len(row)) + row for row in rows])
    is_valid = torch.tensor([[False] * (seq - len(row)) + [True] * len(row) for row in rows])
    generator = torch.Generator().manual_seed(seed)
    return ModelInputs(
        token_ids=ids,
        pixel_values=torch.rand(len(rows), 3, 28, 28, generator=generator) * 2 - 1,
        image_index=torch.arange(len(rows)),
        layout=PrefixLayout.from_flags(is_valid, is_valid),
        loss_weights=None,
        ids=("",) * len(rows),
    )


def record_calls(model: PaliGemma2Model, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the model is asked from now on: ("images", n), ("read", rows) and ("step", rows)."""
    log = []
    for name, short in (
        ("encode_images_in_pieces", "images"),
        ("prefill_in_pieces", "read"),
        ("extend", "step"),
    ):
        ask = getattr(model, name)

        def counted(first, *rest, ask=ask, short=short):
            log.append((short, len(first)))
            return ask(first, *rest)

        monkeypatch.setattr(model, name, counted)
    return log


@torch.inference_mode()
def all_log_probs(
    model: PaliGemma2Model, inputs: ModelInputs, row: int, suffixes: Sequence[Sequence[int]]
) -> Tensor:
    """The model's distribution at each token of each suffix, read at once without a cache.

    Args:
        model: in evaluation mode.
        inputs: prompts padded on the left.
        row: the prompt, asked about its own picture.
        suffixes: all of one length.

    Returns:
        float32 [suffixes, tokens, vocab].
    """
    prompt = inputs.token_ids[row][inputs.layout.is_valid[row]]
    ids = torch.cat([prompt.expand(len(suffixes), -1), torch.tensor(suffixes)], dim=1)
    layout = PrefixLayout.from_flags(
        torch.ones_like(ids, dtype=torch.bool), torch.arange(ids.shape[1]).expand_as(ids) < len(prompt)
    )
    pixel_values = inputs.pixel_values[inputs.image_index[row]].expand(len(suffixes), -1, -1, -1)
    logits = model(ids, pixel_values, layout)[:, len(prompt) - 1 : -1, : model.config.num_text_rows]
    return logits.log_softmax(dim=-1)


def log_probs_of(
    model: PaliGemma2Model, inputs: ModelInputs, row: int, suffixes: Sequence[Sequence[int]]
) -> Tensor:
    """What the model gives each token of each suffix: float32 [suffixes, tokens]; see `all_log_probs`."""
    tokens = torch.tensor(suffixes)[:, :, None]
    return all_log_probs(model, inputs, row, suffixes).gather(2, tokens)[:, :, 0]
