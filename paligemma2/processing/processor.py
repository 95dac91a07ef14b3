"""Examples to the tensors that the model reads: image tokens, bos, prefix, separator, suffix, eos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paligemma2.errors import ImageError, InputError
from paligemma2.model.config import ModelConfig
from paligemma2.model.prefix_mask import PrefixLayout
from paligemma2.processing.image import HF, Resize, image_to_array, open_image, scale_pixels
from paligemma2.processing.painted import draw_outline
from paligemma2.processing.preprocessor_config import read_resize
from paligemma2.processing.prompts import Piece, Prompt, pieces_of
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.processing.video import check_clip, read_clip
from paligemma2.types import Clip, EditedPicture, ImageSource

SEPARATOR = "\n"
Separator = Literal["alone", "joined"]
# Longer text than this per position cannot fit: no piece of the vocabulary has as many characters.
_MAX_CHARACTERS_PER_TOKEN = 128


class ExampleLike(Protocol):
    """What `Processor.encode` reads of an example; `types.Example` is one."""

    @property
    def images(self) -> Sequence[ImageSource | Clip]:
        """One or more pictures, in order; a clip is as many as it has frames."""

    @property
    def prefix(self) -> str | Prompt:
        """What is asked."""

    @property
    def suffix(self) -> str | None:
        """The answer to train on; its location and mask tokens are meant."""

    @property
    def id(self) -> str:
        """The name of the example, "" if it has none."""


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """A batch as the model reads it.

    Attributes:
        token_ids: int64 [batch, seq]; image slots hold `config.image_token_id`, padding
            `config.pad_token_id`.
        pixel_values: float32 [images, 3, height, width] in [-1, 1], each picture once, however many examples
            ask about it (the very same object).
        image_index: int64 [slots], for every image slot of the batch in order, its row in `pixel_values`.
        layout: which tokens are padding, prefix (image tokens to separator) and suffix.
        loss_weights: float32 [batch, seq], 1 at each token to learn (suffix and eos, at their own place; the
            loss does the shifting), else 0. None when not training.
        ids: the names of the examples.
    """

    token_ids: Tensor
    pixel_values: Tensor
    image_index: Tensor
    layout: PrefixLayout
    loss_weights: Tensor | None
    ids: tuple[str, ...]

    def pictures(self, config: ModelConfig) -> tuple[Tensor, ...]:
        """For each example the places of its pictures in `pixel_values`, int64 [pictures of the example]."""
        slots = (self.token_ids == config.image_token_id).sum(dim=1)
        return torch.split(self.image_index, (slots // config.num_image_tokens).tolist())

    def to(self, device: torch.device | str) -> "ModelInputs":
        """The same batch on another device."""
        return ModelInputs(
            token_ids=self.token_ids.to(device),
            pixel_values=self.pixel_values.to(device),
            image_index=self.image_index.to(device),
            layout=self.layout.to(device),
            loss_weights=None if self.loss_weights is None else self.loss_weights.to(device),
            ids=self.ids,
        )


class Processor:
    """Turns examples into `ModelInputs`.

    Args:
        tokenizer: the checkpoint's.
        config: gives image size, image tokens and context length.
        resize: how pictures become squares.
        separator: "alone" tokenises the newline after the prefix by itself, as in training; "joined"
            tokenises it together with the prefix, as Hugging Face does (differs where the prefix ends in a
            newline).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: ModelConfig,
        resize: Resize = HF,
        *,
        separator: Separator = "alone",
    ) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.resize = resize
        self.separator: Separator = separator

    @classmethod
    def from_folder(cls, folder: str | Path, config: ModelConfig) -> "Processor":
        """The processor of a checkpoint folder; without `preprocessor_config.json` as of the released ones.

        Raises:
            CheckpointError: a file is missing or damaged, or asks for pixels that this model does not read.
        """
        resize = read_resize(Path(folder), config)
        return cls(Tokenizer.from_folder(folder, config), config, resize)

    def prompt_ids(self, prompt: str | Prompt = "", num_images: int = 1) -> list[int]:
        """The exact ids of a prompt: image tokens, bos, prefix, separator.

        Args:
            prompt: text of a user (no special token in it is taken for one), or a typed `Prompt`.
            num_images: at least 1.

        Raises:
            InputError: there is no image, or the prompt is longer than the model's context.
        """
        if num_images < 1:
            raise InputError("no image", hint="give at least one image with each prompt")
        image_ids = [self.tokenizer.image_id] * (num_images * self.config.num_image_tokens)
        text_ids = self._text_ids(pieces_of(prompt), len(image_ids))
        self._check_length(len(image_ids), len(text_ids), "prompt")
        return image_ids + text_ids

    def suffix_ids(self, suffix: str) -> list[int]:
        """The ids of an answer to train on, with eos; location and mask tokens in it are meant."""
        return [*self.tokenizer.encode(suffix, allow_locations=True), self.tokenizer.eos_id]

    def training_row(
        self, example: ExampleLike, max_text_tokens: int | None = None
    ) -> tuple[list[int], list[int]]:
        """The ids of the prompt of an example and those of its suffix, which end in eos unless they are cut.

        Args:
            example: with a suffix.
            max_text_tokens: of prefix, separator, suffix, bos and eos together; what is more is cut from the
                end, eos first, as big_vision does (`tolen` in `pp/proj/paligemma/ops.py`).

        Raises:
            InputError: no image, no suffix, nothing of it is left, or it does not fit the context.
        """
        prompt = self._prompt(example)
        if example.suffix is None:
            raise InputError(
                f"example {example.id!r} has no suffix", hint="training needs an answer to learn"
            )
        suffix = self.suffix_ids(example.suffix)
        num_image_ids = count_pictures(example.images) * self.config.num_image_tokens
        num_text_ids = len(prompt) - num_image_ids
        if max_text_tokens is not None:
            suffix = suffix[: max(0, max_text_tokens - num_text_ids)]
            if not suffix:
                raise InputError(
                    f"the prompt has {num_text_ids} tokens of text, of {max_text_tokens} with the suffix",
                    hint="shorten the prompt, or allow longer texts",
                )
        self._check_length(num_image_ids, num_text_ids + len(suffix), "prompt and suffix")
        return prompt, suffix

    def encode(
        self,
        examples: Sequence[ExampleLike],
        *,
        train: bool,
        padding_side: Literal["left", "right"] | None = None,
        max_text_tokens: int | None = None,
    ) -> ModelInputs:
        """A batch of examples, padded to the longest.

        Args:
            examples: at least one; they may have different numbers of images.
            train: append suffix and eos and give loss weights; False leaves a suffix out.
            padding_side: right by default when training, else left, so that all prompts end together.
            max_text_tokens: as in `training_row`.

        Raises:
            InputError: an example has no image, no suffix to train on, or does not fit the context.
            ImageError: an image or a video cannot be read.
            MissingExtra: there is a video, and PyAV is not installed.
        """
        if not examples:
            raise InputError("no example to encode", hint="give at least one")
        rows = [
            self.training_row(example, max_text_tokens) if train else (self._prompt(example), [])
            for example in examples
        ]
        side = padding_side or ("right" if train else "left")
        token_ids, roles = _pad(rows, self.tokenizer.pad_id, side)
        images = self._pictures(examples)
        distinct = {id(image): image for image in images}
        places = {key: place for place, key in enumerate(distinct)}
        return ModelInputs(
            token_ids=token_ids,
            pixel_values=torch.from_numpy(np.stack([self.pixels(image) for image in distinct.values()])),
            image_index=torch.tensor([places[id(image)] for image in images]),
            layout=PrefixLayout.from_flags(roles > 0, roles == 1),
            loss_weights=(roles == 2).float() if train else None,
            ids=tuple(example.id for example in examples),
        )

    def pixels(self, image: ImageSource) -> NDArray[np.float32]:
        """float32 [3, size, size] in [-1, 1], the form in which `frames` gives them already.

        An array that has the model's size is only scaled, one that has the whole form is left as it is.

        Raises:
            ImageError: the image cannot be read.
        """
        size = self.config.vision.image_size
        if isinstance(image, np.ndarray):
            if image.shape == (size, size, 3) and image.dtype == np.uint8:
                return scale_pixels(image)
            if image.shape == (3, size, size) and image.dtype == np.float32:
                return _in_range(image)
        pixels = image_to_array(open_image(image), size, self.resize)
        if isinstance(image, EditedPicture) and image.outline is not None:
            return draw_outline(pixels, image.outline)
        return pixels

    def frames(self, clip: Clip) -> tuple[NDArray[np.float32], ...]:
        """The pictures that a clip stands for; `processing.video.read_clip` in the size of the model."""
        return read_clip(clip, self.config.vision.image_size)

    def _pictures(self, examples: Sequence[ExampleLike]) -> list[ImageSource]:
        """The pictures of all examples in order, with the frames of each clip, which is read once."""
        images = [image for example in examples for image in example.images]
        different = dict.fromkeys(image for image in images if isinstance(image, Clip))
        clips = {clip: self.frames(clip) for clip in different}
        return [each for image in images for each in (clips[image] if isinstance(image, Clip) else (image,))]

    def _prompt(self, example: ExampleLike) -> list[int]:
        return self.prompt_ids(example.prefix, count_pictures(example.images))

    def _text_ids(self, pieces: Sequence[Piece], num_image_ids: int) -> list[int]:
        limit = self.config.text.max_positions * _MAX_CHARACTERS_PER_TOKEN
        num_characters = sum(len(piece.text) for piece in pieces)
        if num_characters > limit:
            raise self._too_long(f"{num_image_ids} image tokens and {num_characters} characters", "prompt")
        if self.separator == "joined":
            pieces = _append(pieces, SEPARATOR)
        ids = [self.tokenizer.bos_id]
        for piece in pieces:
            ids += self.tokenizer.encode(piece.text, allow_locations=piece.trusted)
        return ids if self.separator == "joined" else [*ids, *self.tokenizer.newline_ids]

    def _check_length(self, num_image_ids: int, num_text_ids: int, what: str) -> None:
        if num_image_ids + num_text_ids > self.config.text.max_positions:
            counts = f"{num_image_ids} image + {num_text_ids} text = {num_image_ids + num_text_ids} tokens"
            raise self._too_long(counts, what)

    def _too_long(self, counts: str, what: str) -> InputError:
        return InputError(
            f"the {what} has {counts}, the model's context is {self.config.text.max_positions}",
            hint="shorten the text, or give fewer images or frames",
        )


def count_pictures(images: Sequence[ImageSource | Clip]) -> int:
    """How many pictures they are for the model.

    Raises:
        InputError: a number of a clip makes no sense.
    """
    for image in images:
        if isinstance(image, Clip):
            check_clip(image)
    return sum(image.num_frames if isinstance(image, Clip) else 1 for image in images)


def _in_range(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(pixels.min()), float(pixels.max())
    if not -1.001 <= low <= high <= 1.001:
        raise ImageError(
            f"float pixels from {low:g} to {high:g}",
            hint="give float32 [3, size, size] from -1 to 1, or uint8",
        )
    return pixels


def _append(pieces: Sequence[Piece], text: str) -> list[Piece]:
    """The pieces with `text` behind them, in one piece with the last if that one is plain text."""
    if pieces and not pieces[-1].trusted:
        return [*pieces[:-1], Piece(pieces[-1].text + text)]
    return [*pieces, Piece(text)]


def _pad(rows: Sequence[tuple[list[int], list[int]]], pad_id: int, side: str) -> tuple[Tensor, Tensor]:
    """Token ids and roles (0 padding, 1 prefix, 2 suffix), both int64 [batch, seq]."""
    seq = max(len(prompt) + len(suffix) for prompt, suffix in rows)
    token_ids = np.full((len(rows), seq), pad_id, dtype=np.int64)
    roles = np.zeros((len(rows), seq), dtype=np.int64)
    for i, (prompt, suffix) in enumerate(rows):
        length = len(prompt) + len(suffix)
        start = seq - length if side == "left" else 0
        token_ids[i, start : start + length] = prompt + suffix
        roles[i, start : start + len(prompt)] = 1
        roles[i, start + len(prompt) : start + length] = 2
    return torch.from_numpy(token_ids), torch.from_numpy(roles)
