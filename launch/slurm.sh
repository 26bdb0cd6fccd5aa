#!/usr/bin/env bash
# Trains on the GPUs of a Slurm cluster, one process for each:
#
#   launch/slurm.sh --nodes=2 --gpus-per-node=8 --partition=PARTITION --time=24:00:00 -- --config=configs/videomae_vitb.py --workdir=runs/RUN
#
# Installs the project here, in a folder that the nodes share with this machine, and submits launch/slurm.sbatch, which does the rest: two minutes
# before its time is over, and when it is preempted, the job saves, and queues again to go on from there.
#
#   --nodes --gpus-per-node             how many
#   --cpus-per-task=8                   for each GPU: they decode its videos
#   --partition --account --time        as sbatch has them (default: the cluster's)
#   --job-name=vssl_jax
#   --dry-run                           print the commands, and run none
#
# The environment variable EXTRAS=data,cuda is what is installed; data,cuda12 for older drivers.
# Exit code 0: submitted; 2: this command line is wrong; else sbatch's.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/command_line.sh

FLAGS="nodes gpus-per-node cpus-per-task partition account time job-name"
LISTS=""
SWITCHES=""
nodes="" gpus_per_node="" cpus_per_task=8 partition="" account="" time="" job_name=vssl_jax dry_run=""

read_flags "$@"
need nodes gpus-per-node
need_number nodes gpus-per-node cpus-per-task
need_training

submit=(sbatch "--job-name=$job_name" "--nodes=$nodes" "--gpus-per-node=$gpus_per_node" "--ntasks-per-node=$gpus_per_node")
submit+=("--cpus-per-task=$cpus_per_task")
[ -z "$partition" ] || submit+=("--partition=$partition")
[ -z "$account" ] || submit+=("--account=$account")
[ -z "$time" ] || submit+=("--time=$time")

run env "EXTRAS=${EXTRAS:-data,cuda}" bash -euo pipefail launch/environment.sh
run "${submit[@]}" launch/slurm.sbatch "${TRAINING[@]}"
