"""Flags of `candor generator`. The server, which loads torch, is `candor.jobs.generator.server`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from cyclopts import Parameter


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
    """Address to bind. There is no authentication, so keep to an address that only this machine can
    reach."""
    port: int = 8001
    """Port to bind."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is a GPU, else cpu."""


def serve_generator(options: GeneratorOptions) -> None:
    """Serve a transformers causal language model in OpenAI's chat form."""
    # Here, so that --help answers without torch.
    import uvicorn

    from candor.jobs.generator.server import create_generator

    name = options.served_model_name or options.model.name
    app = create_generator(options.model, name, options.device)
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")
