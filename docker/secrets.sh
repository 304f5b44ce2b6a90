#!/bin/sh
# Draws the three secrets of the stack at random, each in a file of its own. A secret that exists is kept.
# Only the owner can enter the folder. All users could read the files, because compose mounts them as they
# are and the containers run as other users; but nobody reaches the files without entering the folder.
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
