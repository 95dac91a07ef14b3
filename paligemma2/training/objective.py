"""What a training step minimises: the loss of a model on the suffixes of a batch."""

import torch
from torch import Tensor

from paligemma2.errors import InputError
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.processor import ModelInputs
from paligemma2.training.loss import Average, LocationSpread, average_losses, token_losses


class SuffixObjective:
    """The suffix loss of a model; only positions that predict a suffix token reach the output layer.

    Args:
        model: to train.
        average: mean over examples or over tokens.
        label_smoothing: probability taken from the target.
        location_spread: soft targets for location tokens, or None.
    """

    def __init__(
        self,
        model: PaliGemma2Model,
        *,
        average: Average = "example",
        label_smoothing: float = 0.0,
        location_spread: LocationSpread | None = None,
    ) -> None:
        self.model = model
        self.average: Average = average
        self.label_smoothing = label_smoothing
        self.location_spread = location_spread

    def __call__(self, inputs: ModelInputs) -> Tensor:
        """The loss of a batch, a scalar with gradient.

        Raises:
            InputError: the batch was encoded without suffixes.
        """
        if inputs.loss_weights is None:
            raise InputError("the batch has no loss weights", hint="encode it with train=True")
        inputs = inputs.to(self.model.device)
        assert inputs.loss_weights is not None
        image_tokens = self.model.encode_images(inputs.pixel_values)[inputs.image_index]
        hidden = self.model.hidden_states(inputs.token_ids, image_tokens, inputs.layout)
        weights = inputs.loss_weights[:, 1:]  # the token at i is predicted from i - 1
        is_target = weights > 0
        losses = token_losses(
            self.model.language_model.logits(hidden[:, :-1][is_target]),
            inputs.token_ids[:, 1:][is_target],
            label_smoothing=self.label_smoothing,
            location_spread=self.location_spread,
        )
        placed = torch.zeros_like(weights).masked_scatter(is_target, losses)
        return average_losses(placed, weights, average=self.average)

    def weight(self, inputs: ModelInputs) -> float:
        """What the loss of a batch counts among those of others: its examples, or its tokens."""
        assert inputs.loss_weights is not None
        if self.average == "example":
            return float(len(inputs.token_ids))
        return inputs.loss_weights[:, 1:].sum().item()
