"""Chat templates in the shapes of real ones, for the tiny tokeniser."""

from __future__ import annotations

from tests.tiny import TURNS

TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n# Tools\n' }}"
    "{% for tool in tools %}{{ tool | tojson }}{{ '\n' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role }}"
    "{% if message.name %}{{ ' name=' + message.name }}{% endif %}{{ '\n' }}"
    "{% if message.reasoning_content %}"
    "{{ '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}{% endif %}"
    "{% if message.content is string %}{{ message.content }}"
    "{% elif message.content %}"
    "{% for part in message.content %}{{ part.text }}{% if not loop.last %}{{ '\n' }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% for call in message.tool_calls or [] %}{% set call = call.function or call %}"
    "{{ '\n<tool_call>\n' }}{{ {'name': call.name, 'arguments': call.arguments} | tojson }}"
    "{{ '\n</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Writes every field that a message can have, and reads text parts (as Qwen 3's does)."""

STRICT_IDS = (
    "{% for message in messages %}{% for call in message.tool_calls or [] %}"
    "{% if call.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}"
    "{% endfor %}{% endfor %}" + TOOLS
)
"""The same, with Mistral's rule for the ids of calls."""

CALLS_END_OTHERWISE = TOOLS.replace(
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add",
    "{{ '</s>\n' if message.tool_calls else '<|im_end|>\n' }}{% endfor %}{% if add",
)
assert CALLS_END_OTHERWISE != TOOLS
"""The same, with another end for a turn that calls (as Llama 3.1's `<|eom_id|>`)."""

BARE = TURNS
"""Reads role and content only."""

WRITES_NONE = TURNS.replace("message['content'] +", "message['content'] | string +")
"""Writes the word None for a content that is null."""

TWO_ROLES = (
    "{% for message in messages %}{% if message.role in ('user', 'assistant') %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Skips every other role without a word (as the first Phi-3's does)."""

DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|im_start|>system\nToday Date: ' + date_string + '<|im_end|>\n' }}" + TURNS
)
"""Writes the date first (as Llama 3.2's does)."""

DATED_WITH_TOOLS = "{% if tools %}{{ strftime_now('%H:%M') + '\n' }}{% endif %}" + TOOLS
"""Reads the clock only where there are tools."""

RANDOM = "{{ range(1000) | random }}" + TURNS
"""Another text each time."""
