"""How good a model is while it learns: scores on held-out examples, the best weights, an early end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch

from paligemma2.errors import ConfigError
from paligemma2.inference.predictor import PaliGemma2
from paligemma2.jobs.held_out import Score, answers, metric_of
from paligemma2.training.best_weights import keep_best
from paligemma2.training.objective import SuffixObjective
from paligemma2.training.run_log import EVALUATIONS, append_to_log, read_log
from paligemma2.training.team import ALONE, Team
from paligemma2.types import Example

_LOSS_BATCH = 8
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """When and how to score while training.

    Attributes:
        every: updates between evaluations; None scores at the begin and the end only.
        examples: held-out examples to score; None for all of them.
        max_new_tokens: longest answer.
        keep: the "best" weights of all evaluations, or the "last".
        patience: evaluations without a better score after which the run ends; None never ends early.

    Raises:
        ConfigError: a number is not above zero, or `keep` is another word.
    """

    every: int | None = None
    examples: int | None = None
    max_new_tokens: int = 64
    keep: Literal["best", "last"] = "best"
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("every", "examples", "max_new_tokens", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"evaluation.{name} is {value}", hint="give a number above zero")
        if self.keep not in ("best", "last"):
            raise ConfigError(f"evaluation.keep is {self.keep!r}", hint="use best or last")
        if self.patience is not None and self.every is None:
            raise ConfigError("evaluation.patience is set and evaluation.every is not", hint="set both")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One line of `evaluations.jsonl`.

    Attributes:
        step: updates done.
        score: by the metric, 0 to 1, higher is better.
        loss: mean over the examples of the mean over the tokens of their suffixes, without smoothing.
        seconds: that it took.
    """

    step: int
    score: float
    loss: float
    seconds: float


OnEvaluation = Callable[[Evaluation], None]


class Together(Protocol):
    """Does work that asks a model, while the model can be asked."""

    def __call__(self, work: Callable[[], _T], /) -> _T:
        """What the work gives."""


class Evaluator:
    """Scores a model that is in training.

    Args:
        predictor: with the model in training.
        examples: held out, at least one.
        settings: what to do when.
        folder: of the run; evaluations and the best weights go there.
        on_evaluation: told of each evaluation.
        team: the processes that share the model, if there are several; all call the same methods in the same
            order, and the first one writes.
        together: does the work it is given while such a model can be asked.
        metric: by its name and as a function of the answers; None suits the examples.
    """

    def __init__(
        self,
        predictor: PaliGemma2,
        examples: Sequence[Example],
        settings: EvaluationSettings,
        folder: Path,
        on_evaluation: OnEvaluation = lambda evaluation: None,
        *,
        team: Team = ALONE,
        together: Together = lambda work: work(),
        metric: tuple[str, Score] | None = None,
    ) -> None:
        self.team = team
        self._together = together
        self.predictor = predictor
        self.examples = examples
        self.settings = settings
        self.folder = folder
        self.on_evaluation = on_evaluation
        self._latest: tuple[Evaluation, list[str]] | None = None
        self.metric, self._score = metric_of(examples) if metric is None else metric

    def measure(self, step: int) -> tuple[Evaluation, list[str]]:
        """The scores of the model as it is, and its answers."""
        begin = time.monotonic()
        self.predictor.model.eval()
        written, loss = self._together(self._answers_and_loss)
        seconds = time.monotonic() - begin
        return Evaluation(step=step, score=self._score(written), loss=loss, seconds=seconds), written

    def measured(self, step: int) -> tuple[Evaluation, list[str]]:
        """The same after an update, which is measured once."""
        if self._latest is None or self._latest[0].step != step:
            self._latest = self.measure(step)
        return self._latest

    def after_update(self, step: int) -> bool:
        """Evaluate if it is time to; whether the run should end."""
        if self.settings.every is None or step % self.settings.every:
            return False
        evaluation, _ = self.measured(step)
        self.record(evaluation)
        return (
            self.settings.patience is not None and self.team.told(self._since_best) >= self.settings.patience
        )

    def record(self, evaluation: Evaluation) -> None:
        """Add a line to the log, and keep the weights if they are better than all before."""
        before = self.best()
        self.team.told(lambda: append_to_log(self.folder, asdict(evaluation), EVALUATIONS))
        if self.settings.keep == "best" and (before is None or evaluation.score > before.score):
            keep_best(self.folder, self.predictor.model, evaluation.step)
        if self.team.is_first:
            self.on_evaluation(evaluation)

    def best(self) -> Evaluation | None:
        """The evaluation with the highest score so far; of equal ones the first."""
        lines = self.team.told(lambda: read_log(self.folder, EVALUATIONS))
        return Evaluation(**max(lines, key=lambda line: line["score"])) if lines else None

    def _answers_and_loss(self) -> tuple[list[str], float]:
        written = answers(self.predictor, self.examples, self.settings.max_new_tokens)
        return written, mean_loss(self.predictor, self.examples)

    def _since_best(self) -> int:
        """Evaluations after the best one."""
        scores = [line["score"] for line in read_log(self.folder, EVALUATIONS)]
        return len(scores) - 1 - scores.index(max(scores))


@torch.inference_mode()
def mean_loss(predictor: PaliGemma2, examples: Sequence[Example]) -> float:
    """The loss of a model on examples: the mean over examples of the mean over their suffix tokens."""
    objective, total = SuffixObjective(predictor.model), 0.0
    for start in range(0, len(examples), _LOSS_BATCH):
        batch = list(examples[start : start + _LOSS_BATCH])
        total += objective(predictor.processor.encode(batch, train=True)).item() * len(batch)
    return total / len(examples)
