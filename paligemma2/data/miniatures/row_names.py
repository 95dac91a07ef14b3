"""What a task calls the fields of its rows, where the reader leaves that to the task."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AnswerField:
    """A field with right answers.

    Attributes:
        name: of the field; a plural holds a list, as ten people's answers.
        item: the key under which each item of the list has its text; "" where items are texts.
    """

    name: str
    item: str = ""

    @property
    def is_list(self) -> bool:
        """Whether the field holds several answers."""
        return self.name.endswith("s")


@dataclass(frozen=True, kw_only=True)
class RowNames:
    """Names of the fields that prompts and answers are made of.

    Attributes:
        question: the field of the prompt.
        answers: fields of right answers.
        meta: what else the metric reads.
    """

    question: str = "question"
    answers: tuple[AnswerField, ...] = (AnswerField(name="answer"),)
    meta: tuple[str, ...] = ()
