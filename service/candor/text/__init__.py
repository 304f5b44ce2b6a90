"""Turns messages and text into token ids. In: a context and a response. Out: an `Item`, whose
tokens include the response at a known place. Open `render.py` first; `request.py` has the input
types and `turns.py` finds the response in flat text."""
