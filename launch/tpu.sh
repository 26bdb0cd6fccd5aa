#!/usr/bin/env bash
# Trains on a Cloud TPU slice of any number of hosts, by a queued resource:
#
#   launch/tpu.sh run --name=NAME --zone=ZONE --type=v5litepod-16 --mount-bucket=BUCKET -- --config=configs/videomae_vitb.py --workdir=/mnt/BUCKET/RUN
#
# `run` asks for the slice unless it is there, waits for it, installs the project on all its hosts and runs the one command on all of them at
# once (on some of them, it would wait for the others). Where the slice was preempted, or lost a host, it is deleted and asked for again, and the same command
# goes on from its last checkpoint. Hence the one rule: --workdir is a folder that every host reaches and that outlives them. --mount-bucket=BUCKET
# mounts a Cloud Storage bucket as /mnt/BUCKET on all hosts (best one with a hierarchical namespace, where renaming a folder is one operation);
# with --shared-workdir it is any other path, which --startup-script mounts, such as a Filestore share.
#
#   launch/tpu.sh create|wait|setup|status|delete --name=NAME --zone=ZONE ...     one step of it alone
#
#   --name --zone --project     the slice and its queued resource, where they are (default: gcloud's own project)
#   --type --runtime            v4-8, v5litepod-16, v5p-8, v6e-8, ...; the software version, chosen by the type unless given
#   --spot | --reserved         capacity that may be preempted | of a reservation (default: on demand)
#   --valid-until=6h            give up where there is no capacity by then
#   --startup-script=FILE       what each host runs when it starts
#   --mount-bucket=BUCKET | --shared-workdir     where --workdir is
#   --env=KEY=VALUE             for the training command, any number of times
#   --retries=10                how often to ask for the slice again
#   --delete-after              delete the slice after success; otherwise it stays, and costs
#   --dry-run                   print the commands of a run that meets no trouble, and run none
#
# Paths are relative to the repository. Exit code 0: done; 2: this command line is wrong; else that of the training command, or of gcloud. The
# environment variable POLL_SECONDS=30 is how often it asks for the slice's state.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/command_line.sh

FLAGS="name zone project type runtime valid-until startup-script mount-bucket retries"
LISTS="env"
SWITCHES="spot reserved shared-workdir delete-after"
name="" zone="" project="" type="" runtime="" valid_until="" startup_script="" mount_bucket="" retries=10
env=() spot="" reserved="" shared_workdir="" delete_after="" dry_run=""
PREEMPTED=42 LOST=134 # exit codes of the training command: told to stop, and a host that does not answer any more
POLL_SECONDS="${POLL_SECONDS:-30}"

choose_runtime() {
  case "$type" in
    v[234]-*) runtime=tpu-ubuntu2204-base ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    *) fail "--type=$type: no software version is known for it: give --runtime, or a type such as v5litepod-16" ;;
  esac
}

# Sets STATE, to NONE where there is no such queued resource, and WHY it failed. A dry run takes the state to be $1.
ask_state() {
  local answer attempt describe=("${queued[@]}" describe "$name" "${place[@]}" "--format=value(state.state,state.failedData.error.message)")
  WHY=""
  if [ -n "$dry_run" ]; then
    run "${describe[@]}" && STATE="$1" && return
  fi
  # Days of waiting must not end with one answer that the network lost.
  for attempt in 1 2 3 4 5; do
    if answer="$("${describe[@]}" 2>"$complaint")"; then
      IFS=$'\t' read -r STATE WHY <<<"$answer" && return
    elif grep -q 'NOT_FOUND: Resource' "$complaint"; then
      STATE=NONE && return
    fi
    WHY="$(grep -m 1 '^ERROR' "$complaint" || tail -n 1 "$complaint")"
    ! grep -qiE 'NOT_FOUND|PERMISSION_DENIED|active account|required property|core/project|does not have permission' "$complaint" || break # it will say the same again
    [ "$attempt" = 5 ] || sleep "$POLL_SECONDS"
  done
  stop "gcloud does not tell the state of $name: ${WHY:-it says nothing}"
}

create() {
  local request=("${queued[@]}" create "$name" "${place[@]}" "--node-id=$name" "--accelerator-type=$type" "--runtime-version=$runtime")
  [ -z "$spot" ] || request+=(--spot)
  [ -z "$reserved" ] || request+=(--reserved)
  [ -z "$valid_until" ] || request+=("--valid-until-duration=$valid_until")
  [ -z "$startup_script" ] || request+=("--metadata-from-file=startup-script=$startup_script")
  run "${request[@]}"
}

# What an earlier slice left under this name has to go before it can be asked for again.
create_unless_there() {
  ask_state NONE
  case "$STATE" in
    FAILED | SUSPENDING | SUSPENDED | DELETING) delete && create ;;
    NONE) create ;;
  esac
}

# Somebody who deletes the slice meanwhile does not want it back.
stop_if_deleted() {
  case "$STATE" in
    DELETING | NONE) stop "$name was deleted, or never created" ;;
  esac
}

# Returns 1 where the slice was lost again before it could be used.
wait_until_active() {
  local before=""
  while true; do
    ask_state ACTIVE
    [ "$STATE" = "$before" ] || say "$name is $STATE"
    stop_if_deleted
    case "$STATE" in
      ACTIVE) return ;;
      SUSPENDED) return 1 ;;
      FAILED) stop "the request for $name failed: ${WHY:-gcloud gives no reason}; $there" ;;
    esac
    before="$STATE"
    sleep "$POLL_SECONDS"
  done
}

on_all_hosts() {
  # Without the option, ssh would wait forever for a host that has vanished.
  run "${vm[@]}" ssh "$name" "${place[@]}" --worker=all --ssh-flag=-oServerAliveInterval=30 "--command=$1"
}

# What git knows, and new files that it is not told to ignore; without git, all but what a clone makes.
pack() {
  if [ -e .git ]; then
    [ -n "$dry_run" ] || git ls-files --cached --others --exclude-standard >"build/$name.files" || return
    run tar -czf "$1" --ignore-failed-read "--files-from=build/$name.files"
  else
    run tar -czf "$1" --exclude=./.git --exclude='./.venv*' --exclude=./build --exclude=./runs .
  fi
}

setup() {
  local archive="build/$name.tar.gz" variables=("EXTRAS=data,tpu")
  [ -z "$mount_bucket" ] || variables+=("MOUNT_BUCKET=$mount_bucket")
  run mkdir -p build &&
    pack "$archive" &&
    run "${vm[@]}" scp "$archive" "$name:vssl_jax.tar.gz" "${place[@]}" --worker=all &&
    on_all_hosts "mkdir -p vssl_jax && rm -rf vssl_jax/.started && tar -xzf vssl_jax.tar.gz -C vssl_jax && $(quoted env "${variables[@]}" bash vssl_jax/launch/worker.sh)"
}

# Once after each setup: where ssh ends with 255, by a signal or a cut connection, gcloud itself runs the command on that host again, beside what may still
# be running there, or waiting for a host that is gone. `|| exit` keeps the shell, in which a process that ends by a signal has an exit code.
train() {
  local command
  command="$(quoted env "${env[@]+"${env[@]}"}" .venv/bin/python -m vssl_jax.main "${TRAINING[@]}")"
  on_all_hosts "cd vssl_jax && { mkdir .started 2>/dev/null || exit $LOST; } && $command || exit"
}

# Whether the slice is gone. Its state may change later than its hosts: it is asked three times.
lost() {
  local attempt
  for attempt in 1 2 3; do
    ask_state ACTIVE
    stop_if_deleted
    [ "$STATE" = ACTIVE ] || return 0
    [ "$attempt" = 3 ] || sleep "$POLL_SECONDS"
  done
  return 1
}

delete() {
  ask_state ACTIVE
  while [ "$STATE" = SUSPENDING ] || [ "$STATE" = DELETING ]; do
    sleep "$POLL_SECONDS"
    ask_state ACTIVE
  done
  if [ "$STATE" = NONE ]; then
    say "there is no queued resource $name in $zone${project:+ of $project}: nothing is deleted"
  else
    run "${queued[@]}" delete "$name" "${place[@]}" --force --quiet
  fi
}

run_to_the_end() {
  local code attempt=0
  while true; do
    create_unless_there
    code=0
    { wait_until_active && setup && train; } || code=$?
    [ "$code" != 0 ] || break
    [ "$code" = "$PREEMPTED" ] || [ "$code" = "$LOST" ] || lost || stop "it ended with exit code $code; $there" "$code"
    attempt=$((attempt + 1))
    [ "$attempt" -le "$retries" ] || stop "$name was preempted, and --retries=$retries are used up: the same command goes on; $there" "$code"
    say "$name was preempted: retry $attempt of $retries"
    delete
  done
  [ -z "$delete_after" ] || { delete && return; }
  say "done; $there"
}

step="${1:-}"
case "$step" in
  run | create | wait | setup | status | delete) shift ;;
  -h | --help) ;;
  "" | --*) fail "no subcommand: $SELF run, create, wait, setup, status or delete, then the flags (see $SELF --help)" ;;
  *) fail "unknown subcommand '$step': run, create, wait, setup, status or delete" ;;
esac
read_flags "$@"
need name zone
need_number retries
[ -z "$spot" ] || [ -z "$reserved" ] || fail "--spot and --reserved exclude each other: give one of them, or none for on-demand capacity"
if [ "$step" = run ] || [ "$step" = create ]; then
  need type
  [ -n "$runtime" ] || choose_runtime
fi
if [ "$step" = run ]; then
  need_shared_workdir "${mount_bucket:+/mnt/$mount_bucket}" --mount-bucket=BUCKET
  distributed_on
else
  [ ${#TRAINING[@]} = 0 ] || fail "only 'run' takes a training command after --"
fi

[ -n "$dry_run" ] || command -v gcloud >/dev/null || stop "gcloud is not on PATH: install the Google Cloud CLI, and sign in with gcloud auth login"

queued=(gcloud compute tpus queued-resources) vm=(gcloud compute tpus tpu-vm)
there="$name stays until it is deleted: $SELF delete --name=$name --zone=$zone"
place=("--zone=$zone")
[ -z "$project" ] || place+=("--project=$project")
complaint="$(mktemp)"
trap 'rm -f "$complaint"' EXIT

case "$step" in
  run) run_to_the_end ;;
  wait) wait_until_active || stop "$name was preempted" ;;
  status) run "${queued[@]}" describe "$name" "${place[@]}" ;;
  *) "$step" ;;
esac
