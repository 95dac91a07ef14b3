"""What `load` returns: a model that takes pictures and prompts and writes text."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import tee
from pathlib import Path
from typing import TypeAlias

from paligemma2.checkpoint.mask_codec_files import check_mask_codec, load_mask_codec
from paligemma2.errors import InputError
from paligemma2.inference.answers import stream_answer, write_answers
from paligemma2.inference.constraints import Constraint
from paligemma2.inference.detection import Selection, label_groups, read_objects, select
from paligemma2.inference.engine import Engine
from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.inference.masks import with_masks
from paligemma2.inference.scoring import score_suffixes
from paligemma2.inference.search import Search, find_objects
from paligemma2.model.config import ModelConfig
from paligemma2.model.mask_codec import MaskCodec
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing import prompts
from paligemma2.processing.image import open_image
from paligemma2.processing.processor import ModelInputs, Processor, count_pictures
from paligemma2.processing.prompts import Prompt
from paligemma2.types import (
    Clip,
    Decoding,
    Detection,
    Generation,
    ImageSource,
    ParsedAnswer,
    ScoredSuffix,
)

GREEDY = Decoding()
DEFAULT_MAX_NEW_TOKENS = GREEDY.max_new_tokens
ALL_DISTINCT = Selection()
BOX_TOKENS, MASK_TOKENS = 256, 768
"""Where answers of objects are cut by default: after about 30 objects."""

Images: TypeAlias = ImageSource | Clip | Sequence[ImageSource | Clip]
"""The pictures of one prompt: one, or several in order; a clip stands for its frames."""


@dataclass(frozen=True, kw_only=True)
class _Ask:
    images: tuple[ImageSource | Clip, ...]
    prefix: str | Prompt
    suffix: None = None
    id: str = ""


class PaliGemma2:
    """A loaded model with its processor.

    Args:
        model: in evaluation mode.
        processor: of the same checkpoint.
        folder: where the checkpoint's files are.
        mask_codec: see `load`.
        adapter: the name of the adapter for requests that name none; may be changed at any time.
    """

    def __init__(
        self,
        model: PaliGemma2Model,
        processor: Processor,
        folder: Path,
        mask_codec: str | Path = "default",
        adapter: str | None = None,
    ) -> None:
        self.model = model
        self.processor = processor
        self.folder = folder
        self.adapter = adapter
        self._mask_codec = mask_codec
        self._images = ImageTokens(model)

    @property
    def config(self) -> ModelConfig:
        """Sizes and constants of the model."""
        return self.model.config

    def forget_pictures(self) -> None:
        """Encode pictures anew that were asked about before.

        A change of weights in place is noticed by itself, other than by a fused optimiser of PyTorch, or in a
        model that processes share in training.
        """
        self._images = ImageTokens(self.model)

    @cached_property
    def mask_codec(self) -> MaskCodec:
        """Turns mask tokens into masks; read when it is first needed.

        Raises:
            CheckpointError: the codec is damaged, or the model's mask tokens are of another one.
        """
        loaded = load_mask_codec(self._mask_codec)
        check_mask_codec(self.folder, loaded)
        return loaded.codec

    def generate(
        self,
        images: "Images | Sequence[Images]",
        prompts: str | Prompt | Sequence[str | Prompt] = "",
        max_new_tokens: int | None = None,
        *,
        decoding: Decoding = GREEDY,
        constraints: Sequence[Constraint | None] | None = None,
        adapter: str | Sequence[str | None] | None = None,
    ) -> list[Generation]:
        """What the model writes for each prompt.

        Args:
            images: with one prompt: a picture, or a list of pictures that the prompt is about. With a list
                of prompts: one entry per prompt, each a picture or a list of pictures. A `Clip` may stand
                wherever a picture may.
            prompts: one prompt or a list. The empty prompt is valid. Special tokens in a `str` are
                plain text; `paligemma2.processing.prompts` builds prompts that hold locations.
            max_new_tokens: where to stop a model that does not end by itself, instead of `decoding`'s.
            decoding: how tokens are chosen.
            constraints: for each prompt the grammar that its answer must keep to, or None; see
                `paligemma2.inference.constraints`.
            adapter: the name of one for all prompts, or one for each; None is the model's own `adapter`.

        Returns:
            One result per prompt, the same as if each were asked alone.

        Raises:
            InputError: no image, counts that do not match, a setting out of range, an unknown adapter, or a
                prompt that does not fit the context.
            ImageError: an image or a video cannot be read.
            MissingExtra: there is a video, and PyAV is not installed.
        """
        inputs = self.encode(images, prompts)
        limited = _limited(decoding, max_new_tokens)
        tokenizer = self.processor.tokenizer
        names = self._adapters(adapter, len(inputs.ids))
        return write_answers(self.model, tokenizer, inputs, limited, constraints, self._images, names)

    def stream(
        self,
        images: Images,
        prompt: str | Prompt = "",
        max_new_tokens: int | None = None,
        *,
        decoding: Decoding = GREEDY,
        constraint: Constraint | None = None,
        adapter: str | None = None,
    ) -> Generator[str, None, Generation]:
        """The text of one answer in pieces, as it is decoded; see `generate`.

        Returns:
            The whole answer, as the value of the generator (of `yield from`).
        """
        inputs = self.encode(images, prompt)
        limited = _limited(decoding, max_new_tokens)
        (name,) = self._adapters(adapter, 1)
        return (
            yield from stream_answer(
                self.model, self.processor.tokenizer, inputs, limited, constraint, self._images, name
            )
        )

    def score(
        self,
        images: Images,
        prefix: str | Prompt,
        suffixes: Sequence[str],
        *,
        batch_size: int = 16,
        adapter: str | None = None,
    ) -> list[ScoredSuffix]:
        """How likely each of some answers to a prompt is; the prompt is read once.

        Args:
            images: the picture or pictures that the prompt is about.
            prefix: the prompt.
            suffixes: the answers; location and mask tokens in them are meant.
            batch_size: answers that are read at once.
            adapter: see `generate`.

        Raises:
            InputError: there are no suffixes, one does not fit the context, or an unknown adapter.
            ImageError: an image cannot be read.
        """
        ids = [self.processor.suffix_ids(suffix) for suffix in suffixes]
        inputs = self.encode(images, prefix)
        (name,) = self._adapters(adapter, 1)
        scores = score_suffixes(
            self.model, inputs, ids, batch_size=batch_size, images=self._images, adapter=name
        )
        return [ScoredSuffix(suffix=s, log_probs=row) for s, row in zip(suffixes, scores, strict=True)]

    def engine(self, *, rows: int = 8, capacity: int | None = None) -> Engine:
        """An engine whose rows join and leave between steps, for callers whose prompts come at any time.

        Args:
            rows: the most at a time; the others wait.
            capacity: the most tokens of a row, prompt and answer together; by default the image tokens of
                one picture and 256 more.
        """
        room = min(self.config.num_image_tokens + 256, self.config.text.max_positions)
        size = room if capacity is None else capacity
        return Engine(self.model, self._images, rows=rows, capacity=size, adapter=self.adapter)

    def caption(self, images: Images, language: str = "en") -> str:
        """A short caption."""
        return self._ask(images, prompts.caption(language))

    def answer(self, images: Images, question: str, language: str = "en") -> str:
        """The answer to a question about the image or images."""
        return self._ask(images, prompts.answer(question, language))

    def ocr(self, images: Images) -> str:
        """The text in the image."""
        return self._ask(images, prompts.ocr(), max_new_tokens=256)

    def detect(
        self,
        images: Images,
        *labels: str,
        selection: Selection = ALL_DISTINCT,
        constrained: bool = False,
        max_new_tokens: int = BOX_TOKENS,
    ) -> tuple[Detection, ...]:
        """The objects with these names that the model finds, the best first; see `detect_many`.

        All labels are in one prompt, and several pictures are seen together.
        """
        search = Search(
            form="detect",
            groups=[labels],
            constrained=constrained,
            batch_size=1,
            max_new_tokens=max_new_tokens,
        )
        (found,) = find_objects(self, [_pictures(images)], search)
        return select(found, selection)

    def segment(
        self,
        image: ImageSource,
        *things: str,
        selection: Selection = ALL_DISTINCT,
        constrained: bool = False,
        max_new_tokens: int = MASK_TOKENS,
    ) -> tuple[Detection, ...]:
        """The objects with these names, the best first, with their masks; see `segment_many`.

        All things are in one prompt.
        """
        (found,) = self.segment_many(
            [image],
            things,
            labels_per_prompt=max(len(things), 1),
            selection=selection,
            constrained=constrained,
            max_new_tokens=max_new_tokens,
        )
        return found

    def detect_many(
        self,
        images: Iterable[ImageSource],
        labels: Sequence[str],
        *,
        labels_per_prompt: int = 1,
        batch_size: int = 8,
        selection: Selection = ALL_DISTINCT,
        constrained: bool = False,
        max_new_tokens: int = BOX_TOKENS,
    ) -> Iterator[tuple[Detection, ...]]:
        """The objects with any of many names in each picture, scored as `detection` says, the best first.

        The labels are shared out evenly over as few prompts as possible, and what is found is selected from
        for each picture as a whole.

        Args:
            images: pictures to look at, each by itself; read as they are needed.
            labels: what to look for, each once.
            labels_per_prompt: the most labels in one prompt. One finds the most; more cost less time.
            batch_size: prompts that are asked at once; only the last bits of scores depend on it.
            selection: which of the objects are given.
            constrained: answers can only be objects with labels of their prompt. Otherwise the model may
                write any label; where it writes well, both find the same.
            max_new_tokens: where to cut an answer; whole objects in it still count.

        Yields:
            For each picture its objects.

        Raises:
            InputError: a label or a number cannot be used, or a prompt does not fit the context.
            ImageError: an image cannot be read.
        """
        search = Search(
            form="detect",
            groups=label_groups(labels, labels_per_prompt),
            constrained=constrained,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
        )
        for found in find_objects(self, ((image,) for image in images), search):
            yield select(found, selection)

    def segment_many(
        self,
        images: Iterable[ImageSource],
        things: Sequence[str],
        *,
        labels_per_prompt: int = 1,
        batch_size: int = 8,
        selection: Selection = ALL_DISTINCT,
        constrained: bool = False,
        max_new_tokens: int = MASK_TOKENS,
    ) -> Iterator[tuple[Detection, ...]]:
        """As `detect_many`, with the mask tokens of the objects and the masks that they mean.

        An object whose mask tokens are malformed has no mask.

        Raises:
            CheckpointError: the mask codec is damaged, or the model's mask tokens are of another one.
        """
        search = Search(
            form="segment",
            groups=label_groups(things, labels_per_prompt),
            constrained=constrained,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
        )
        codec = self.mask_codec
        seen, asked = tee(open_image(image) for image in images)
        finds = find_objects(self, ((picture,) for picture in asked), search)
        for picture, found in zip(seen, finds, strict=True):
            yield with_masks(select(found, selection), codec, picture.height, picture.width)

    def read(self, generation: Generation, size: tuple[int, int] | None = None) -> ParsedAnswer:
        """The objects in an answer of this model, with their scores, in the order written.

        Args:
            generation: a result of `generate` or `stream`.
            size: (height, width) of the picture in pixels to decode the masks too.

        Raises:
            CheckpointError: there are masks, and the codec is damaged or not the model's.
        """
        parsed = read_objects(generation, self.processor.tokenizer)
        if size is None or not any(found.codes for found in parsed.detections):
            return parsed
        return replace(parsed, detections=with_masks(parsed.detections, self.mask_codec, *size))

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
                _Ask(images=_pictures(entry), prefix=prompt)
                for entry, prompt in zip(images, prompts, strict=True)
            ]
        return self.processor.encode(asks, train=False)

    def _adapters(self, adapter: str | Sequence[str | None] | None, count: int) -> list[str | None]:
        given = [adapter] * count if adapter is None or isinstance(adapter, str) else adapter
        return [self.adapter if name is None else name for name in given]

    def _ask(self, images: Images, prompt: str | Prompt, max_new_tokens: int = 64) -> str:
        num_images = count_pictures(_pictures(images))
        room = self.config.text.max_positions - len(self.processor.prompt_ids(prompt, num_images))
        return self.generate(images, prompt, min(max_new_tokens, max(room, 1)))[0].text


def _limited(decoding: Decoding, max_new_tokens: int | None) -> Decoding:
    return decoding if max_new_tokens is None else replace(decoding, max_new_tokens=max_new_tokens)


def _pictures(images: Images) -> tuple[ImageSource | Clip, ...]:
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return tuple(images)
    return (images,)
