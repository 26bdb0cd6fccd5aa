# Sourced by the launchers for many hosts (tpu.sh, xpk.sh, slurm.sh, skypilot.sh): reads their command lines, and runs commands or only prints them.
# A launcher names in FLAGS the flags that take a value, in LISTS those that may stand several times, in SWITCHES the others, and initializes
# the variable of each: --gpus-per-node=8 becomes gpus_per_node=8. What stands after -- is the training command's, in TRAINING.

SELF="launch/$(basename "$0")"
TRAINING=()

fail() { # what is wrong with the command line, and what to do about it
  echo "error: $*" >&2
  exit 2
}

stop() { # what went wrong, and the exit code
  echo "error: $1" >&2
  exit "${2:-1}"
}

say() {
  [ -n "$dry_run" ] || echo "$*" >&2
}

show_help() { # the comment at the head of the script
  sed -n '2,/^[^#]/ s/^# \{0,1\}//p' "$SELF"
}

read_flags() {
  local flag value variable unknown
  while [ $# -gt 0 ]; do
    flag="${1%%=*}" value="${1#*=}"
    unknown="unknown flag $flag: see $SELF --help; the training command's own arguments follow after --"
    variable="${flag#--}" && variable="${variable//-/_}"
    case "$1" in
      --) TRAINING=("${@:2}") && return ;;
      -h | --help) show_help && exit 0 ;;
      --[a-z]*) [[ "$flag" != *[!a-z-]* ]] || fail "$unknown" ;;
      *) fail "unexpected argument '$1': flags are written --name=value, and the training command's arguments follow after --" ;;
    esac
    if [[ " $SWITCHES dry-run " == *" ${flag#--} "* ]]; then
      [ "$1" = "$flag" ] || fail "$flag takes no value"
      value=1
    elif [[ " $FLAGS $LISTS " != *" ${flag#--} "* ]]; then
      fail "$unknown"
    elif [ "$1" = "$flag" ]; then
      [ $# -ge 2 ] && [[ "$2" != --* ]] || fail "$flag lacks its value: write $flag=VALUE"
      value="$2" && shift
    fi
    [ -n "$value" ] || fail "$flag lacks its value: write $flag=VALUE"
    if [[ " $LISTS " == *" ${flag#--} "* ]]; then
      eval "$variable+=(\"\$value\")"
    else
      printf -v "$variable" '%s' "$value"
    fi
    shift
  done
}

need() { # flags, by their names
  local flag variable
  for flag in "$@"; do
    variable="${flag//-/_}"
    [ -n "${!variable}" ] || fail "--$flag is missing: see $SELF --help"
  done
}

need_number() { # flags that are whole numbers where they are given
  local flag variable
  for flag in "$@"; do
    variable="${flag//-/_}"
    [[ "${!variable}" =~ ^[0-9]*$ ]] || fail "--$flag=${!variable}: it must be a whole number"
  done
}

training_value() { # the last value of a flag among the training command's arguments
  local place value=""
  for ((place = 0; place < ${#TRAINING[@]}; place++)); do
    case "${TRAINING[place]}" in
      "$1="*) value="${TRAINING[place]#*=}" ;;
      "$1") value="${TRAINING[place + 1]:-}" ;;
    esac
  done
  echo "$value"
}

need_training() { # a mistake is said before a machine is asked for
  [ ${#TRAINING[@]} -gt 0 ] && [ -n "$(training_value --config)" ] || fail "no recipe: end with -- --config=configs/NAME.py --workdir=DIR"
  case "$(training_value --workdir)" in
    *://*) fail "--workdir=$(training_value --workdir) is a URL, and a run is kept in a folder: give the one where its bucket is mounted" ;;
  esac
}

need_shared_workdir() { # $1: the folder that every host mounts, if the launcher knows it; $2: the flags that mount one
  local workdir
  need_training
  workdir="$(training_value --workdir)"
  case "$workdir" in
    "") fail "no --workdir: name a folder after -- that every host reaches and that outlives them, which $2 gives" ;;
    /*) ;;
    *) fail "--workdir=$workdir is on each host's own disk: name a folder that every host reaches and that outlives them, which $2 gives" ;;
  esac
  [ -z "$shared_workdir" ] || return 0
  [ -n "$1" ] || fail "nothing mounts --workdir=$workdir: give $2, or --shared-workdir where every host mounts it by itself"
  [[ "$workdir" == "$1"/?* ]] || fail "--workdir=$workdir is not under $1, where $2 mounts what every host reaches: move it there"
}

distributed_on() { # on Cloud TPU machines the environment does not show that there are others: JAX asks the metadata server
  [ -n "$(training_value --config.distributed)" ] || TRAINING+=(--config.distributed=on)
}

quoted() { # as one line that bash reads back as the same words
  local line
  line="$(printf '%q ' "$@")"
  echo "${line% }"
}

run() {
  if [ -n "$dry_run" ]; then
    quoted "$@"
  else
    "$@"
  fi
}
