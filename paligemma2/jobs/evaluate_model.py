"""The model of an evaluation: known by its headers at once, loaded when something is to be predicted."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from paligemma2.assets import TINY_FOLDER
from paligemma2.checkpoint.adapter import WEIGHTS_FILE
from paligemma2.checkpoint.open_checkpoint import open_checkpoint
from paligemma2.checkpoint.verify import weights_digest
from paligemma2.checkpoint.weights import OnProgress
from paligemma2.errors import ConfigError, InputError
from paligemma2.evaluation.protocol import ProtocolSettings, config_under
from paligemma2.evaluation.task import COLUMNS, Task
from paligemma2.inference.loading import load
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.evaluate_config import EvaluateConfig
from paligemma2.model.config import ModelConfig
from paligemma2.processing.image import Resize
from paligemma2.training.initialization import initialize

_SIZES = {2304: "3B", 3584: "10B", 4608: "28B"}


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of a model before its weights are loaded.

    Attributes:
        name: as it was given.
        config: the checkpoint's own.
        fingerprint: 16 hexadecimal digits of the weights and of what is done to them.
        column: of the card, "224-3B"; "" for a model of another size.
    """

    name: str
    config: ModelConfig
    fingerprint: str
    column: str


def model_facts(name: str, config: EvaluateConfig) -> ModelFacts:
    """What the headers of a checkpoint say.

    Raises:
        InputError: no such model or adapter.
        CheckpointError: its files are damaged.
    """
    checkpoint = open_checkpoint(
        TINY_FOLDER if name == "tiny" else name, compare_head=False, may_be_quantized=True
    )
    parts = [weights_digest(checkpoint), config.dtype, config.quantize, _adapter_digest(config.adapter)]
    return ModelFacts(
        name=name,
        config=checkpoint.config,
        fingerprint=hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16],
        column=column_of(checkpoint.config),
    )


def column_of(config: ModelConfig) -> str:
    """The column of the card's table for a model; "" if it has none."""
    column = f"{config.vision.image_size}-{_SIZES.get(config.text.hidden_size, '')}"
    return column if column in COLUMNS else ""


class EvaluatedModel:
    """A model that is loaded when it is first asked, and again only for other soft-caps or windows.

    Args:
        facts: of the model.
        config: of the evaluation.
        device: of this process.
        on_load: called while the weights are read, with the bytes done and in all.
    """

    def __init__(
        self, facts: ModelFacts, config: EvaluateConfig, device: str, on_load: OnProgress | None = None
    ) -> None:
        self.facts = facts
        self._config = config
        self._device = device
        self._on_load = on_load
        self._loaded: tuple[ModelConfig, PaliGemma2] | None = None

    def under_protocol(self, task: Task) -> PaliGemma2:
        """The model with soft-caps, window and resize of the protocol, spoiled if that is the control.

        Raises:
            PaliGemmaError: what `paligemma2.load` raises.
        """
        settings = self._config.settings
        wanted = config_under(settings.name, task, self.facts.config)
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = None  # so that two never fill the memory
            self._loaded = wanted, self._load(wanted, settings)
        predictor = self._loaded[1]
        if settings.name == "paligemma":
            predictor.processor.resize = Resize("bilinear", antialias=task.antialias)
        return predictor

    def _load(self, wanted: ModelConfig, settings: ProtocolSettings) -> PaliGemma2:
        config, is_random = self._config, settings.control == "random weights"
        if is_random and (config.quantize is not None or config.adapter is not None):
            raise ConfigError(
                "random weights have neither few bits nor an adapter", hint="leave quantize and adapter out"
            )
        predictor = load(
            self.facts.name,
            device=self._device,
            dtype="float32" if is_random else config.dtype,
            quantize=config.quantize,
            adapter=config.adapter,
            mask_codec=config.mask_codec or "default",
            for_training=is_random,
            config=wanted,
            on_progress=self._on_load,
        )
        if is_random:
            predictor.model.to("cpu")  # where random numbers are the same everywhere
            initialize(predictor.model, predictor.processor.tokenizer.location_ids, seed=settings.seed)
            predictor.model.to(self._device if self._device != "auto" else _auto_device())
        return predictor


def _auto_device() -> str:
    from paligemma2.inference.devices import device_named

    return str(device_named("auto"))


def _adapter_digest(folder: Path | None) -> str:
    if folder is None:
        return ""
    path = folder.expanduser() / WEIGHTS_FILE
    if not path.is_file():
        raise InputError(f"no adapter at {folder}", hint=f"give a folder that holds {WEIGHTS_FILE}")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
