#!/bin/sh
# The three secrets of the stack, drawn at random, each in a file of its own; one that is there is kept.
# The folder is the owner's alone. The files can be read by all, because compose mounts them as they are
# and the containers run as other users; who cannot enter the folder cannot reach them.
# usage: secrets.sh [DIRECTORY]
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"
for name in candor_api_key candor_operator_key grafana_admin_password; do
  [ -s "$folder/$name" ] && continue
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$folder/$name"
  chmod 444 "$folder/$name"
done
