#!/usr/bin/env bash
# Trains on Cloud TPU slices of a GKE cluster, through xpk (pip install xpk; https://github.com/AI-Hypercomputer/xpk):
#
#   launch/xpk.sh --cluster=CLUSTER --workload=NAME --tpu-type=v5litepod-16 --docker-image=IMAGE --storage=STORAGE \
#     -- --config=configs/videomae_vitb.py --workdir=/mnt/BUCKET/RUN
#
# The cluster restarts all hosts of the workload where one is lost, or where the command ends with 42, preempted after a save; any other exit code
# below 127 ends it. The same command then goes on from its last checkpoint, hence --workdir is a folder that every host mounts: of a --storage that
# `xpk storage attach` gave the cluster, or any other with --shared-workdir. Nothing is sent to xpk's makers: its telemetry is switched off.
#
#   --cluster --workload                       the cluster, which is there, and the name of the workload
#   --project --zone                           where the cluster is (default: gcloud's own)
#   --tpu-type --num-slices=1                  the slices
#   --docker-image                             the project, installed with the extras data,tpu, as the image's working directory
#   --storage=STORAGE | --shared-workdir       where --workdir is; --storage any number of times
#   --env=KEY=VALUE                            for the training command, any number of times
#   --max-restarts=10                          how often the cluster starts it again
#   --termination-grace-period-seconds=120     how long a host that is to stop may take to save; a spot machine gets less
#   --wait                                     return when the workload has finished, and fail where it failed
#   --dry-run                                  print the commands, and run none
#
# Exit code 0: submitted (with --wait: done); 2: this command line is wrong; else xpk's.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/command_line.sh

FLAGS="cluster workload project zone tpu-type num-slices docker-image max-restarts termination-grace-period-seconds"
LISTS="storage env"
SWITCHES="shared-workdir wait"
cluster="" workload="" project="" zone="" tpu_type="" num_slices=1 docker_image="" max_restarts=10 termination_grace_period_seconds=120
storage=() env=() shared_workdir="" wait="" dry_run=""

read_flags "$@"
need cluster workload tpu-type docker-image
need_number num-slices max-restarts termination-grace-period-seconds
[ ${#storage[@]} = 0 ] || shared_workdir=1
need_shared_workdir "" --storage=STORAGE

place=("--cluster=$cluster")
[ -z "$project" ] || place+=("--project=$project")
[ -z "$zone" ] || place+=("--zone=$zone")

create=(xpk workload create "${place[@]}" "--workload=$workload" "--tpu-type=$tpu_type" "--num-slices=$num_slices" "--docker-image=$docker_image")
create+=("--max-restarts=$max_restarts" "--termination-grace-period-seconds=$termination_grace_period_seconds")
for each in "${storage[@]+"${storage[@]}"}"; do
  create+=("--storage=$each")
done
for each in "${env[@]+"${env[@]}"}"; do
  create+=("--env=$each")
done

run xpk config set send-telemetry false
run "${create[@]}" "--command=$(quoted python -m vssl_jax.main "${TRAINING[@]}")"
if [ -n "$wait" ]; then
  run xpk workload list "${place[@]}" "--wait-for-job-completion=$workload"
fi
