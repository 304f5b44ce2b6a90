"""What vLLM's pooling routes share: fields of their bodies, and OpenAI's list as their answer.

Read from vllm/entrypoints/pooling of vLLM 0.32.0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from candor.trainers.contract import ContractAnswer
from candor.trainers.fields import Body, Lora, Media, Model, Priority, Refused, User

AS_TRAINED = "the template is applied as the model was trained with it; leave the field out"


class VllmBody(Body):
    """The fields that all of vLLM's pooling routes share."""

    model: Model = None
    user: User = None
    priority: Priority = None
    request_id: Annotated[str | None, Field(max_length=256)] = Field(
        None, description="The answer's id ends in it."
    )
    truncate_prompt_tokens: int | None = Field(
        None, description="-1 drops the oldest tokens of the context from a text over the window."
    )
    truncation_side: Literal["left", "right"] | None = Field(
        None, description="Of a text that is cut: left or absent."
    )
    padding: Annotated[Any, Refused("no text is padded to a length", ("do_not_pad",))] = None
    mm_processor_kwargs: Media = None
    cache_salt: Annotated[
        Any,
        Refused("all callers share one cache; leave the field out, or run a server of your own"),
    ] = None
    lora_path: Lora = None

    def truncation(self) -> Literal["error", "left"] | None:
        """The truncation that the body asks for, or None.

        Raises:
            ValueError: the body asks to cut the response, or to cut to another length than the
                model's window.
        """
        if self.truncate_prompt_tokens is None:
            # The caller expects that no context is dropped to keep the end of a text.
            return "error" if self.truncation_side == "right" else None
        if self.truncate_prompt_tokens != -1:
            raise ValueError("'truncate_prompt_tokens' must be -1 (the model's window) or absent")
        if self.truncation_side == "right":
            raise ValueError(
                "'truncation_side': right would cut the response; send left or leave it out"
            )
        return "left"


class TemplateBody(Body):
    """The fields that say how messages become a text."""

    add_special_tokens: bool | None = Field(
        None,
        description="A text gets the template's one BOS. A body that asks for none, or for a "
        "second one, is refused.",
    )
    chat_template: str | None = Field(None, description="Must be the served model's template.")
    add_generation_prompt: Annotated[
        Any, Refused("the text to score ends with the response, not with an open turn", (False,))
    ] = None
    continue_final_message: Annotated[
        Any, Refused("the response's turn is ended as the served model's ending says", (False,))
    ] = None
    chat_template_kwargs: Annotated[Any, Refused(AS_TRAINED, ({},))] = None
    media_io_kwargs: Media = None


class Activated(Body):
    use_activation: bool | None = Field(None, description="true asks for the sigmoid.")
    activation: bool | None = Field(None, description="Old name of `use_activation`.")
    softmax: bool | None = Field(None, description="Oldest name of `use_activation`.")

    @model_validator(mode="after")
    def one_meaning(self) -> Self:
        named = {
            name: getattr(self, name)
            for name in ("use_activation", "activation", "softmax")
            if getattr(self, name) is not None
        }
        if len(set(named.values())) > 1:
            raise ValueError(
                " and ".join(f"'{name}'" for name in named)
                + " are names of one field and contradict each other; send one of them"
            )
        return self

    @property
    def wants_activation(self) -> bool | None:
        """The value, under whichever name the body has it."""
        named = (self.use_activation, self.activation, self.softmax)
        return next((value for value in named if value is not None), None)


def openai_list(
    kind: str, data: list[dict[str, Any]], body: VllmBody, answer: ContractAnswer
) -> dict[str, Any]:
    """`data` in OpenAI's list format."""
    usage = {
        "prompt_tokens": answer.num_tokens,
        "total_tokens": answer.num_tokens,
        "completion_tokens": 0,
    }
    return {
        "id": f"{kind}-{body.request_id or answer.request_id}",
        "object": "list",
        "created": answer.created,
        "model": answer.model,
        "data": data,
        "usage": usage,
    }


def example_answer(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{kind}-9f8e7d6c5b4a3928",
        "object": "list",
        "created": 1764000000,
        "model": "reward-model",
        "data": [{"index": 0, **data}],
        "usage": {"prompt_tokens": 25, "total_tokens": 25, "completion_tokens": 0},
    }
