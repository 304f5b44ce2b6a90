"""Turns messages and text into token ids. In: a context and a response. Out: an `Item`, whose
tokens include the response at a known place. Open `conversation.py` first; `writing.py` applies the
template, `request.py` has the input types and `turns.py` finds the response in flat text."""
