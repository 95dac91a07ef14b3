"""What a training step minimises: the loss of a model on the suffixes of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paligemma2.errors import InputError
from paligemma2.model.gemma2 import OutputTable
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.model.restored_linear import RestoredTable
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.image_cache import ImageCache
from paligemma2.training.loss import LocationSpread, count_examples, loss_shares, token_losses
from paligemma2.training.recipe import Average
from paligemma2.training.table_loss import table_loss, tie


class SuffixObjective:
    """The suffix loss of a model; only positions that predict a suffix token reach the output layer.

    Args:
        model: to train.
        average: mean over examples or over tokens.
        label_smoothing: probability taken from the target.
        location_spread: soft targets for location tokens, or None.
        image_cache: keeps what a frozen image encoder gives, or None to encode each picture each time.

    Raises:
        ConfigError: there is a cache, but the image encoder is trained.
    """

    def __init__(
        self,
        model: PaliGemma2Model,
        *,
        average: Average = "example",
        label_smoothing: float = 0.0,
        location_spread: LocationSpread | None = None,
        image_cache: ImageCache | None = None,
    ) -> None:
        self.model = model
        self.average: Average = average
        self.label_smoothing = label_smoothing
        self.location_spread = location_spread
        self.image_cache = image_cache
        if image_cache is not None:
            image_cache.check(model)

    def __call__(self, inputs: ModelInputs) -> Tensor:
        """The loss of a batch, a scalar with gradient.

        Args:
            inputs: with loss weights; padded or packed.

        Raises:
            InputError: the batch was encoded without suffixes.
        """
        shares = loss_shares(_loss_weights(inputs), inputs.layout.segments, average=self.average)
        shares = F.pad(shares[:, 1:], (0, 1))  # the token at i is predicted from i - 1
        next_ids = F.pad(inputs.token_ids[:, 1:], (0, 1))
        examples, device = inputs.layout.examples(shares > 0), self.model.device
        assert examples.places is not None
        shares, next_ids = (each.flatten()[examples.places].to(device) for each in (shares, next_ids))
        encoded = self._encode(inputs.pixel_values)
        inputs = inputs.to(device)
        looked_up, multiplied = self._table()
        hidden = self.model.hidden_states(
            inputs.token_ids, encoded[inputs.image_index], inputs.layout, examples.to(device), looked_up
        )
        return self._loss(hidden[0], multiplied, next_ids, shares)

    def weight_of(self, inputs: ModelInputs) -> float:
        """How much this batch counts in the mean over a larger one: its examples, or its suffix tokens.

        Raises:
            InputError: the batch was encoded without suffixes.
        """
        weights = _loss_weights(inputs)
        if self.average == "token":
            return float(weights[:, 1:].sum())
        return float(count_examples(inputs.layout.segments))

    def _encode(self, pixel_values: Tensor) -> Tensor:
        if self.image_cache is not None:
            return self.image_cache.encode(self.model, pixel_values)
        return self.model.encode_images(pixel_values.to(self.model.device))

    def _table(self) -> tuple[Tensor | None, Tensor | RestoredTable | None]:
        """Where to look rows up, if not in the model's own table; the output layer, if chunks can be had."""
        table: nn.Module = self.model.language_model.embed_tokens
        if isinstance(table, RestoredTable):
            return None, table
        if isinstance(table, OutputTable):
            return None, None
        weight = self.model.language_model.embed_tokens.weight
        if weight.requires_grad and torch.is_grad_enabled():
            return tie(weight)
        return None, weight

    def _loss(
        self, hidden: Tensor, table: Tensor | RestoredTable | None, targets: Tensor, shares: Tensor
    ) -> Tensor:
        decoder = self.model.language_model
        if table is None:
            losses = token_losses(
                decoder.logits(hidden),
                targets,
                label_smoothing=self.label_smoothing,
                location_spread=self.location_spread,
            )
            return (losses * shares).sum()
        return table_loss(
            hidden,
            table,
            targets,
            shares,
            final_cap=decoder.config.final_cap,
            label_smoothing=self.label_smoothing,
            location_spread=self.location_spread,
        )


def _loss_weights(inputs: ModelInputs) -> Tensor:
    if inputs.loss_weights is None:
        raise InputError("the batch has no loss weights", hint="encode it with train=True")
    return inputs.loss_weights
