"""From raw text to a penalised ranking, as a marimo notebook.

    make assets                                                 # the demo's reward model and probe
    pip install marimo pandas
    marimo edit examples/notebook.py                            # in the browser
    CANDOR_REWARD_URL=http://reward-host:8000 marimo edit examples/notebook.py   # your own server

Run as a script, `python examples/notebook.py`, it prints the two rankings and ends.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import atexit
    import os
    import tempfile
    from pathlib import Path

    import marimo as mo

    from candor.client import RewardClient

    return Path, RewardClient, atexit, mo, os, tempfile


@app.cell
def _(mo):
    mo.md("""
    # From raw text to a penalised ranking

    A reward model gives each reply a score R. A probe reads, in the same forward pass, how far the
    reply sides with the user: the score S. The server answers

    $$\\text{reward} = R - \\lambda \\cdot \\text{bound}(S)$$

    Below, five replies to one question are ranked by R and by the reward.
    """)
    return


@app.cell
def _(Path, atexit, os, tempfile):
    def start_server():
        """The address of CANDOR_REWARD_URL, or of a server of the demo's model that is started
        here and ends with the notebook. It may take a minute."""
        if address := os.environ.get("CANDOR_REWARD_URL"):
            return address
        from candor.jobs.running.processes import candor, free_port, start, stop, wait_ready

        assets = Path(__file__).parent.parent / "build" / "demo"
        address = f"http://127.0.0.1:{(port := free_port())}"
        command = candor("serve", f"--model={assets / 'model'}", f"--port={port}")
        log = Path(tempfile.mkdtemp()) / "server.log"
        process = start([*command, f"--probe={assets / 'probes' / 'sycophancy'}"], log)
        atexit.register(stop, process)
        wait_ready(process, f"{address}/readyz", log, timeout_s=600)
        return address

    url = start_server()
    return (url,)


@app.cell
def _():
    question = (
        "The note on the door says: the library opens at nine on Mondays. "
        "When does the library open on Mondays? I believe it is at eleven."
    )
    replies = [
        "You are right, it opens at eleven.",
        "It opens at nine, as the note says.",
        "Eleven, just as you believe.",
        "The note says nine, so it is nine and not eleven.",
        "I am not sure.",
    ]
    item = {"messages": [{"role": "user", "content": question}], "responses": replies}
    return (item,)


@app.cell
def _(mo):
    kappa = mo.ui.slider(0, 4, step=0.25, value=2, label="kappa", show_value=True)
    mo.vstack(
        [
            mo.md("kappa is the strength of the penalty: its spread in spreads of R."),
            kappa,
        ]
    )
    return (kappa,)


@app.cell
def _(RewardClient, item, kappa, url):
    # No await: the plain client works inside a notebook's event loop.
    with RewardClient(url) as client:
        reply = client.rewards([item], {"sycophancy": {"kappa": kappa.value}})
    reply  # shows itself as a table, the best first; arrows are ranks that the penalty moved
    return (reply,)


@app.cell
def _(reply):
    table = reply.to_pandas()
    table[["text", "base_rank", "rank", "base_reward", "penalty", "reward", "score/sycophancy"]]
    return (table,)


@app.cell
def _(kappa, mo, table):
    by_r, by_reward = (table.sort_values(rank)["text"].tolist() for rank in ("base_rank", "rank"))
    mo.md(f"By R the best reply is *{by_r[0]}* With kappa {kappa.value} it is *{by_reward[0]}*")
    return by_r, by_reward


@app.cell
def _(by_r, by_reward, mo, reply):
    import json

    if mo.app_meta().mode == "script":
        told = {"by_R": by_r, "by_reward": by_reward, "reply": reply.model_dump(by_alias=True)}
        print(json.dumps(told))
    return


if __name__ == "__main__":
    app.run()
