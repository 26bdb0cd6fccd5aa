#!/usr/bin/env bash
# Run on every host by tpu.sh and skypilot.sh, any number of times: installs Python and the project with $EXTRAS in .venv, and mounts the bucket
# $MOUNT_BUCKET, if one is named, at /mnt/$MOUNT_BUCKET.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$HOME/.local/bin:$PATH"

install_gcsfuse() {
  local codename key=/usr/share/keyrings/cloud.google.asc packages=https://packages.cloud.google.com/apt
  codename="$(. /etc/os-release && echo "$VERSION_CODENAME")"
  curl -fsSL "$packages/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $packages gcsfuse-$codename main" | sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  # A machine that has just started updates itself, and holds apt's lock meanwhile.
  sudo apt-get -o DPkg::Lock::Timeout=600 --quiet update
  sudo apt-get -o DPkg::Lock::Timeout=600 --quiet --yes install gcsfuse
}

mount_bucket() {
  local folder="/mnt/$MOUNT_BUCKET"
  if mountpoint -q "$folder"; then
    return
  fi
  command -v gcsfuse >/dev/null || install_gcsfuse
  sudo mkdir -p "$folder"
  sudo chown "$(id -u)" "$folder"
  # Checkpoints are finished by renaming their folder, and each host has to see at once what another has written.
  gcsfuse --implicit-dirs --rename-dir-limit=200000 --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 "$MOUNT_BUCKET" "$folder"
}

# The images' own Python is too old, or lacks the module venv.
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
uv python install 3.12
PYTHON="$(uv python find --managed-python 3.12)"
. launch/environment.sh
if [ -n "${MOUNT_BUCKET:-}" ]; then
  mount_bucket
fi
