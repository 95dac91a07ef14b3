"""`load` and the object it returns: a model that takes pictures and prompts and writes text."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.load import load_model
from paligemma2.checkpoint.weights import OnProgress
from paligemma2.errors import InputError
from paligemma2.inference.engine import decode
from paligemma2.model.config import ModelConfig
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing import prompts
from paligemma2.processing.parsing import parse_answer
from paligemma2.processing.processor import ModelInputs, Processor
from paligemma2.processing.prompts import Prompt
from paligemma2.types import Detection, FinishReason, Generation, ImageSource

Dtype = Literal["auto", "float32", "bfloat16"]
DEFAULT_MAX_NEW_TOKENS = 64

Images: TypeAlias = ImageSource | Sequence[ImageSource]
"""The pictures of one prompt: one, or several in order."""


@dataclass(frozen=True, kw_only=True)
class _Ask:
    images: tuple[ImageSource, ...]
    prefix: str | Prompt
    suffix: None = None
    id: str = ""


class PaliGemma2:
    """A loaded model with its processor.

    Args:
        model: in evaluation mode.
        processor: of the same checkpoint.
        folder: where the checkpoint's files are.
    """

    def __init__(self, model: PaliGemma2Model, processor: Processor, folder: Path) -> None:
        self.model = model
        self.processor = processor
        self.folder = folder

    @property
    def config(self) -> ModelConfig:
        """Sizes and constants of the model."""
        return self.model.config

    def generate(
        self,
        images: "Images | Sequence[Images]",
        prompts: str | Prompt | Sequence[str | Prompt] = "",
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    ) -> list[Generation]:
        """What the model writes, greedily, for each prompt.

        Args:
            images: with one prompt: a picture, or a list of pictures that the prompt is about. With a list
                of prompts: one entry per prompt, each a picture or a list of pictures.
            prompts: one prompt or a list. The empty prompt is valid. Special tokens in a `str` are
                plain text; `paligemma2.processing.prompts` builds prompts that hold locations.
            max_new_tokens: where to stop a model that does not end by itself.

        Returns:
            One result per prompt, the same as if each were asked alone.

        Raises:
            InputError: no image, counts that do not match, or a prompt that does not fit the context.
            ImageError: an image cannot be read.
        """
        inputs = self.encode(images, prompts)
        rows: list[list[int]] = [[] for _ in inputs.ids]
        for tokens in decode(self.model, inputs, max_new_tokens):
            for row, token in zip(rows, tokens, strict=True):
                if token is not None:
                    row.append(token)
        lengths = inputs.layout.is_valid.sum(dim=1).tolist()
        return [self._generation(row, length) for row, length in zip(rows, lengths, strict=True)]

    def stream(
        self, images: Images, prompt: str | Prompt = "", max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    ) -> Generator[str, None, Generation]:
        """The text of one answer in pieces, as it is decoded; see `generate`.

        Returns:
            The whole answer, as the value of the generator (of `yield from`).
        """
        inputs = self.encode(images, prompt)
        decoder = self.processor.tokenizer.decoder()
        tokens: list[int] = []
        for (token,) in decode(self.model, inputs, max_new_tokens):
            assert token is not None  # decoding stops when the only row has ended
            tokens.append(token)
            if token != self.config.eos_token_id and (text := decoder.push(token)):
                yield text
        if rest := decoder.finish():
            yield rest
        return self._generation(tokens, inputs.token_ids.shape[1])

    def caption(self, images: Images, language: str = "en") -> str:
        """A short caption."""
        return self._ask(images, prompts.caption(language))

    def answer(self, images: Images, question: str, language: str = "en") -> str:
        """The answer to a question about the image or images."""
        return self._ask(images, prompts.answer(question, language))

    def ocr(self, images: Images) -> str:
        """The text in the image."""
        return self._ask(images, prompts.ocr(), max_new_tokens=256)

    def detect(self, images: Images, *labels: str) -> tuple[Detection, ...]:
        """The objects with these names that the model finds."""
        return parse_answer(self._ask(images, prompts.detect(*labels), max_new_tokens=256)).detections

    def encode(
        self, images: "Images | Sequence[Images]", prompts: str | Prompt | Sequence[str | Prompt] = ""
    ) -> ModelInputs:
        """The tensors that `generate` gives to the model; see there for the arguments."""
        if isinstance(prompts, str | Prompt):
            asks = [_Ask(images=_pictures(images), prefix=prompts)]  # type: ignore[arg-type]
        else:
            if not isinstance(images, Sequence) or isinstance(images, str | bytes):
                raise InputError(
                    f"{len(prompts)} prompts but one picture", hint="give a list with an entry per prompt"
                )
            if len(images) != len(prompts):
                raise InputError(
                    f"{len(prompts)} prompts but {len(images)} entries of images",
                    hint="give one entry per prompt: a picture, or a list of pictures",
                )
            asks = [
                _Ask(images=_pictures(entry), prefix=prompt)  # type: ignore[arg-type]
                for entry, prompt in zip(images, prompts, strict=True)
            ]
        return self.processor.encode(asks, train=False)

    def _ask(self, images: Images, prompt: str | Prompt, max_new_tokens: int = 64) -> str:
        room = self.config.text.max_positions - len(self.processor.prompt_ids(prompt, len(_pictures(images))))
        return self.generate(images, prompt, min(max_new_tokens, max(room, 1)))[0].text

    def _generation(self, token_ids: list[int], num_prompt_tokens: int) -> Generation:
        reason: FinishReason = "length"
        if token_ids and token_ids[-1] == self.config.eos_token_id:
            token_ids, reason = token_ids[:-1], "stop"
        return Generation(
            text=self.processor.tokenizer.decode(token_ids),
            token_ids=tuple(token_ids),
            finish_reason=reason,
            num_prompt_tokens=num_prompt_tokens,
        )


def load(
    source: str | Path = "tiny",
    *,
    device: str = "auto",
    dtype: Dtype = "auto",
    on_progress: OnProgress | None = None,
) -> PaliGemma2:
    """A model ready to use.

    Args:
        source: "tiny" (the small trained model inside this package), a Hugging Face folder, a big_vision
            `.npz` with its tokenizer beside it, or a hub id such as `google/paligemma2-3b-pt-224`.
        device: "auto" is CUDA if there is one, else the CPU.
        dtype: "auto" is the file's own, but float32 for float16 files and for the small model.
        on_progress: called while the weights are read, with the bytes done and in all.

    Raises:
        InputError: no such model or device.
        CheckpointError: the files are damaged or do not fit.
    """
    is_tiny = str(source) == "tiny"
    if is_tiny and dtype == "auto":
        dtype = "float32"  # bfloat16 gains nothing at this size and is emulated on many CPUs
    torch_dtype, torch_device = _DTYPES[_checked(dtype)], _device(device)
    folder = TINY_FOLDER if is_tiny else source
    try:
        loaded = load_model(folder, device=torch_device, dtype=torch_dtype, on_progress=on_progress)
    except InputError as error:
        if Path(folder).exists():
            raise
        hint = f"{error.hint}; 'tiny' is the small model inside this package"
        raise InputError(error.message, hint=hint) from error
    if loaded.model.dtype == torch.float16:
        loaded.model.float()  # activations of Gemma 2 overflow in float16
    return PaliGemma2(loaded.model, Processor.from_folder(loaded.folder, loaded.config), loaded.folder)


_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}


def _checked(dtype: str) -> str:
    if dtype not in _DTYPES:
        hint = f"use one of {', '.join(_DTYPES)}"
        if dtype == "float16":
            hint += "; activations of Gemma 2 overflow in float16"
        raise InputError(f"dtype {dtype!r} is not supported", hint=hint)
    return dtype


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not available here", hint="use auto or cpu") from error
    return device


def _pictures(images: object) -> tuple[object, ...]:
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return tuple(images)
    return (images,)
