#!/bin/sh
# Draws the four secrets of the stack at random, each in a file of its own. A secret that exists is kept.
# The token of the Hugging Face Hub is not drawn: hf_token holds $HF_TOKEN, and is empty without it.
# Only the owner can enter the folder. All users could read the files, because compose mounts them as they
# are and the containers run as other users; but nobody reaches the files without entering the folder.
# usage: [HF_TOKEN=hf_...] secrets.sh [DIRECTORY]
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"
for name in candor_api_key candor_operator_key generator_api_key grafana_admin_password; do
  [ -s "$folder/$name" ] && continue
  rm -f "$folder/$name"
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$folder/$name"
  chmod 444 "$folder/$name"
done
if [ ! -s "$folder/hf_token" ]; then
  rm -f "$folder/hf_token"
  printf '%s' "${HF_TOKEN:-}" > "$folder/hf_token"
  chmod 444 "$folder/hf_token"
fi
