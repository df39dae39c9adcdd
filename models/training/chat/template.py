"""The chat template (ChatML) and the same rendering in Python for training."""

from __future__ import annotations

from collections.abc import Iterable

from models.training.chat.dialogue import Message

PAD = "<|endoftext|>"
START = "<|im_start|>"
END = "<|im_end|>"
SPECIAL_TOKENS = (PAD, START, END)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + (message['content'] | trim) + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""


def render(messages: Iterable[Message], *, generate: bool = False) -> str:
    """The text of a conversation, equal to what CHAT_TEMPLATE gives for it."""
    text = "".join(f"{START}{m.role}\n{m.content.strip()}{END}\n" for m in messages)
    return f"{text}{START}assistant\n" if generate else text
