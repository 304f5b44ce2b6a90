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

PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{{ '<|assistant|>\n' if add_generation_prompt else '<|endoftext|>' }}"
)
"""A turn's end, and the end of the text behind it (Phi-3)."""

COHERE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|START_OF_TURN_TOKEN|>' }}"
    "{% if m.role == 'assistant' %}"
    "{{ '<|CHATBOT_TOKEN|><|START_RESPONSE|>' + m.content + '<|END_RESPONSE|>' }}"
    "{% else %}{{ '<|USER_TOKEN|>' + m.content }}{% endif %}{{ '<|END_OF_TURN_TOKEN|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
"""Marks around the response inside the turn (Command R7B)."""

GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim }}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

NEMOTRON = (
    "{% for m in messages %}{% set content = m.content %}"
    "{% if m.role == 'assistant' and '<think>' not in content and '</think>' not in content %}"
    "{% set content = '<think></think>' + content %}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
"""The generation prompt opens a thought, and a reply without one gets an empty one (Nemotron 3)."""

QWEN3 = (
    "{% for m in messages %}{% set content = m.content %}{% set thought = '' %}"
    "{% if m.role == 'assistant' %}{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if loop.last %}"
    "{% set content = '<think>\n' + thought + '\n</think>\n\n' + content %}{% endif %}"
    "{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

GPT_OSS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if '<|channel|>' in m.content %}{{ raise_exception('use the thinking field') }}{% endif %}"
    "{% if m.thinking and loop.last %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
"""Reasoning and answer are two messages of the policy's turn (gpt-oss)."""

SPECIAL = (
    *("<|end|>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|START_OF_TURN_TOKEN|>"),
    *("<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|START_RESPONSE|>"),
    *("<|END_RESPONSE|>", "<start_of_turn>", "<end_of_turn>", "<|start_header_id|>", "<pad>"),
    *("<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|start|>", "<|channel|>", "<|message|>"),
    *("<|return|>", "<think>", "</think>"),
)
"""The special tokens of these templates."""
