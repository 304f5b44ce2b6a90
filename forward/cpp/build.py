"""Compiles `forward/cpp/*.cpp` into one shared library. Needs nothing but a C++ compiler.

    python forward/cpp/build.py                   # into the package
    python forward/cpp/build.py --emulate --out X # the AVX-512 kernels in plain C++, for tests

`hatch_build.py` runs this file when the package is built or installed. The library runs on any
x86-64 CPU: each instruction set is an object of its own, and the library chooses at run time.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LIBRARY = HERE.parent / "candor" / "forward" / "native_attention.so"

COMMON = [
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-strict-aliasing",
    "-Wall",
    "-Wno-psabi",
]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
AVX512 += ["-mprefer-vector-width=512"]
KERNELS = {
    "avx2": (["-DLANES=8", "-DPAIRS=0"], ["-mavx2", "-mfma"]),
    "avx512": (["-DLANES=16", "-DPAIRS=0"], AVX512),
    "avx512bf16": (["-DLANES=16", "-DPAIRS=1"], [*AVX512, "-mavx512bf16"]),
}


class CannotBuild(RuntimeError):
    """There is no compiler, it failed, or this is not an x86-64 CPU."""


def build(out: Path, *, emulate: bool = False) -> None:
    """Writes the library to `out`.

    Args:
        emulate: compile the AVX-512 kernels without AVX-512 instructions, and use them on any CPU.

    Raises:
        CannotBuild: with the reason and the compiler's own message.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"} or sys.platform == "win32":
        raise CannotBuild(f"no kernel for {platform.machine()} on {sys.platform}")
    compiler = _compiler()
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for name, (defines, flags) in KERNELS.items():
            objects.append(f"{folder}/{name}.o")
            flags = [*KERNELS["avx2"][1], "-O1"] if emulate else flags
            source = str(HERE / "kernel.cpp")
            _run([*compiler, *COMMON, f"-DKERNEL={name}", *defines, *flags], source, objects[-1])
        driver = f"{folder}/attention.o"
        emulated = ["-DEMULATED"] if emulate else []
        _run([*compiler, *COMMON, *emulated], str(HERE / "attention.cpp"), driver)
        linked = f"{folder}/linked.so"
        _call([*compiler, "-shared", "-pthread", driver, *objects, "-o", linked])
        # Replaced in one step: a server that has the old library open keeps it.
        partial = out.with_suffix(".partial")
        shutil.copyfile(linked, partial)
        os.replace(partial, out)


def _compiler() -> list[str]:
    wanted = os.environ.get("CXX", "").split()
    for command in [wanted] if wanted else [["g++"], ["clang++"], ["c++"]]:
        if shutil.which(command[0]):
            return command
    raise CannotBuild("no C++ compiler: looked for $CXX, or g++, clang++ and c++")


def _run(command: list[str], source: str, out: str) -> None:
    _call([*command, "-c", source, "-o", out])


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild(f"{' '.join(command)}\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, prog="forward/cpp/build.py")
    parser.add_argument("--out", type=Path, default=LIBRARY)
    parser.add_argument("--emulate", action="store_true")
    given = parser.parse_args()
    try:
        build(given.out, emulate=given.emulate)
    except CannotBuild as error:
        sys.exit(f"forward/cpp/build.py: {error}")
    print(given.out)
