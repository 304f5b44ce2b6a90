"""Flags of `candor generator`. The server, which loads torch, is `candor.jobs.generator.server`."""

from __future__ import annotations

import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from cyclopts import Parameter

from candor.errors import reason_of
from candor.flags import read_key_file
from candor.jobs.running.progress import say


@Parameter(name="*")
@dataclass(frozen=True)
class GeneratorOptions:
    """The options of `candor generator`. Docstrings of fields are their help."""

    model: Path
    """Folder of the causal language model and its tokenizer."""
    _: KW_ONLY
    served_model_name: str = ""
    """Model name that requests must carry. Default: the folder's name."""
    host: str = "127.0.0.1"
    """Address to bind. Without --api-key-file, keep to an address that only this machine can
    reach."""
    port: int = 8001
    """Port to bind."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is a GPU, else cpu."""
    api_key_file: Path | None = None
    """File that holds the key that every route but /health asks for."""


def serve_generator(options: GeneratorOptions) -> None:
    """Serve a transformers causal language model in OpenAI's chat form.

    Raises:
        UsageError: the file of the key cannot be read, or is empty.
        SystemExit: (1) the model cannot be loaded; the message says why.
    """
    api_key = read_key_file("--api-key-file", options.api_key_file)
    # Here, so that a wrong flag is answered without torch.
    say("importing torch and transformers")
    import uvicorn

    from candor.jobs.generator.server import create_generator

    name = options.served_model_name or options.model.name
    say(f"loading {options.model}")
    try:
        app = create_generator(options.model, name, options.device, api_key)
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"candor: the generator did not start: {reason_of(error)}")
    say(f"serving {name} at http://{options.host}:{options.port}")
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
