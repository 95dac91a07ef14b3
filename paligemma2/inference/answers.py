"""From tokens to text: whole answers, answers in pieces, and where stop texts end them."""

from collections.abc import Generator, Sequence

from paligemma2.inference.constraints import Constraint
from paligemma2.inference.decoding import HasStopped, decode
from paligemma2.inference.engine import Token
from paligemma2.inference.image_tokens import ImageTokens
from paligemma2.inference.settings import check_decoding
from paligemma2.inference.stopping import StopStrings
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.processing.processor import ModelInputs
from paligemma2.processing.tokenizer import Tokenizer
from paligemma2.types import Decoding, FinishReason, Generation


def write_answers(
    model: PaliGemma2Model,
    tokenizer: Tokenizer,
    inputs: ModelInputs,
    decoding: Decoding,
    constraints: Sequence[Constraint | None] | None = None,
    images: ImageTokens | None = None,
    adapters: Sequence[str | None] | None = None,
) -> list[Generation]:
    """What the model writes for each prompt; see `decoding.decode` for arguments and errors."""
    check_decoding(decoding)
    lengths = inputs.layout.is_valid.sum(dim=1).tolist()
    end = model.config.eos_token_id
    answers = [_Answer(tokenizer, end, decoding.stop, length) for length in lengths]
    has_stopped = _has_stopped(answers, decoding)
    for tokens in decode(
        model,
        inputs,
        decoding,
        images=images,
        constraints=constraints,
        adapters=adapters,
        has_stopped=has_stopped,
    ):
        for answer, token in zip(answers, tokens, strict=True):
            if token is not None:
                answer.push(token)
    return [answer.generation() for answer in answers]


def stream_answer(
    model: PaliGemma2Model,
    tokenizer: Tokenizer,
    inputs: ModelInputs,
    decoding: Decoding,
    constraint: Constraint | None = None,
    images: ImageTokens | None = None,
    adapter: str | None = None,
) -> Generator[str, None, Generation]:
    """The text of one answer in pieces, as it is decoded; the whole of it is the generator's value."""
    check_decoding(decoding)
    answer = _Answer(tokenizer, model.config.eos_token_id, decoding.stop, inputs.token_ids.shape[1])
    has_stopped = _has_stopped([answer], decoding)
    for (token,) in decode(
        model,
        inputs,
        decoding,
        images=images,
        constraints=[constraint],
        adapters=[adapter],
        has_stopped=has_stopped,
    ):
        assert token is not None  # decoding stops when the only row has ended
        if piece := answer.push(token):
            yield piece
    if rest := answer.finish():
        yield rest
    return answer.generation()


def _has_stopped(answers: Sequence["_Answer"], decoding: Decoding) -> HasStopped | None:
    return (lambda row: answers[row].has_stopped) if decoding.stop else None


class _Answer:
    def __init__(self, tokenizer: Tokenizer, end: int, stop: Sequence[str], num_prompt_tokens: int) -> None:
        self._end = end
        self._decoder = tokenizer.decoder()
        self._stop = StopStrings(stop)
        self._num_prompt_tokens = num_prompt_tokens
        self._tokens: list[Token] = []
        self._pieces: list[str] = []

    @property
    def has_stopped(self) -> bool:
        return self._stop.is_found

    def push(self, token: Token) -> str:
        """The text that is certain with this token and was not before."""
        self._tokens.append(token)
        return self._keep("" if token.id == self._end else self._stop.push(self._decoder.push(token.id)))

    def finish(self) -> str:
        return self._keep(self._stop.push(self._decoder.finish()) + self._stop.finish())

    def generation(self) -> Generation:
        self.finish()
        tokens = [token for token in self._tokens if token.id != self._end]
        has_ended = self.has_stopped or len(tokens) < len(self._tokens)
        reason: FinishReason = "stop" if has_ended else "length"
        return Generation(
            text="".join(self._pieces),
            token_ids=tuple(token.id for token in tokens),
            finish_reason=reason,
            num_prompt_tokens=self._num_prompt_tokens,
            log_probs=tuple(token.log_prob for token in tokens),
            location_log_probs=tuple(token.location_log_prob for token in tokens),
            top_log_probs=tuple(token.top for token in tokens if token.top),
        )

    def _keep(self, piece: str) -> str:
        self._pieces.append(piece)
        return piece
