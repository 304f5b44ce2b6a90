"""Every option of `candor serve` (those of the trainers' routes: `candor.trainers.options`), stated
once: one frozen `Settings`, checked before anything is loaded.

cyclopts makes the flags, their `CANDOR_SERVE_*` environment variables and `--help` of the fields:
the docstring of a field is the help of its flag. What can only be known once the probes' cards are
read (which names exist) is checked by `check_names`. Nothing here imports torch.
"""

from candor.settings.names import check_names
from candor.settings.options import Settings, is_loopback
from candor.settings.vllm_arguments import SET_BY_CANDOR, parse_vllm_args

__all__ = ["SET_BY_CANDOR", "Settings", "check_names", "is_loopback", "parse_vllm_args"]
