#!/usr/bin/env bash
# Trains on GPUs or a Cloud TPU slice of whichever cloud has them, as a SkyPilot managed job (pip install 'skypilot[gcp]'; https://docs.skypilot.co):
#
#   launch/skypilot.sh --name=NAME --accelerators=H100:8 --mount-bucket=BUCKET -- --config=configs/videomae_vitb.py --workdir=/mnt/BUCKET/RUN
#
# SkyPilot finds the machines, runs launch/skypilot.yaml on them, and starts it again on new ones where they are preempted, or where it ends with 42,
# preempted after a save. The same command then goes on from its last checkpoint in the Cloud Storage bucket, which every machine has at /mnt/BUCKET.
#
#   --name                name of the job
#   --accelerators        of each node: H100:8, A100-80GB:8, ...; or one slice with all its hosts: tpu-v5litepod-16, tpu-v6e-16, ...
#   --num-nodes=1         machines with GPUs
#   --infra=CLOUD[/REGION[/ZONE]]     where (default: SkyPilot chooses)
#   --mount-bucket        where --workdir is
#   --on-demand           no spot machines
#   --env=KEY=VALUE       for the training command, any number of times
#   --detach              return when the job is submitted, rather than show its log
#   --dry-run             print the command, and do not run it
#
# Exit code 0: submitted; 2: this command line is wrong; else sky's.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/command_line.sh

FLAGS="name accelerators num-nodes infra mount-bucket"
LISTS="env"
SWITCHES="on-demand detach"
name="" accelerators="" num_nodes=1 infra="" mount_bucket="" env=() on_demand="" detach="" dry_run=""
shared_workdir=""

read_flags "$@"
need name accelerators mount-bucket
need_number num-nodes
need_shared_workdir "/mnt/$mount_bucket" --mount-bucket=BUCKET

extras=data,cuda
if [[ "$accelerators" == tpu-* ]]; then
  [ "$num_nodes" = 1 ] || fail "--num-nodes=$num_nodes: a slice is one node, however many hosts it has; several slices: launch/xpk.sh"
  extras=data,tpu
  distributed_on
fi

submit=(sky jobs launch launch/skypilot.yaml --yes --name "$name" --gpus "$accelerators" --num-nodes "$num_nodes")
[ -z "$infra" ] || submit+=(--infra "$infra")
[ -z "$on_demand" ] || submit+=(--no-use-spot)
[ -z "$detach" ] || submit+=(--detach-run)
for each in "${env[@]+"${env[@]}"}"; do
  submit+=(--env "$each")
done
run "${submit[@]}" --env "EXTRAS=$extras" --env "BUCKET=$mount_bucket" --env "TRAINING=$(quoted "${TRAINING[@]}")"
