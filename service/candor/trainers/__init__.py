"""The wire formats of trainers and other servers, translated to and from `POST /v1/rewards`. In: a
trainer's JSON body. Out: the answer in that trainer's format. Open `contract.py` first; the file of
a client says which version of its code was read."""
