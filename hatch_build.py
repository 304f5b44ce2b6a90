"""Build hook: compiles the native attention kernel where there is a C++ compiler.

Never fails an install: without a compiler, or on a CPU that has no kernel, the package is pure
Python and attention is computed by torch.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeKernel(BuildHookInterface):
    """An editable install gets the library in the source tree, a wheel carries it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        native = _module(Path(self.root) / "forward" / "cpp" / "build.py")
        try:
            native.build(native.LIBRARY)
        except native.CannotBuild as error:
            native.LIBRARY.unlink(missing_ok=True)  # not one of an older version
            self.app.display_warning(f"no native attention kernel: {error}")
            return
        build_data["artifacts"].append(f"/{native.LIBRARY.relative_to(self.root).as_posix()}")
        build_data["pure_python"] = False
        # Called through ctypes: any Python 3, this platform.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("candor_native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
