#!/bin/sh
# vLLM as the stack's generator. Its key comes out of a file: other users of a machine can read a command line,
# and `docker inspect` shows the environment. vLLM takes an empty key for none, so an empty file ends the start.
# usage: generator.sh MODEL [FLAG...]
set -eu
VLLM_API_KEY=$(cat "$API_KEY_FILE")
if [ -z "$VLLM_API_KEY" ]; then
  echo "generator: $API_KEY_FILE is empty; make the key with: sh docker/secrets.sh" >&2
  exit 2
fi
export VLLM_API_KEY
exec vllm serve "$@"
