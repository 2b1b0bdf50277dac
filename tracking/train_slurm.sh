#!/usr/bin/env bash
# A training on 8 machines with 8 GPUs each, under Slurm. Submit it from the repository's folder; what is given to it
# goes to tracking/train.py. It ends and goes on by itself until the last epoch is done.
#
#   sbatch tracking/train_slurm.sh --script stark_s --config baseline --save_dir /shared/stark
#   sbatch --nodes 2 --gpus-per-node 4 --time 8:00:00 tracking/train_slurm.sh --script …
#
# Data, --save_dir and this folder must be the same on all machines. PYTHON names an interpreter other than .venv's.

#SBATCH --job-name=stark
#SBATCH --nodes=8
# One launcher a machine, which starts a process a GPU.
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
# Three minutes before the time is up this script is told, so that the training can save (it takes a minute at most).
#SBATCH --signal=B:USR1@180
# Put back into the queue, also after a machine failed or the job was preempted; the log goes on where it was.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log

set -uo pipefail

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

[[ -n ${SLURM_JOB_ID:-} ]] || fail "this is a job for Slurm: sbatch tracking/train_slurm.sh …"
# Slurm runs a copy of this script from elsewhere.
cd "$SLURM_SUBMIT_DIR" || exit 2
[[ -f tracking/train.py ]] || fail "no tracking/train.py in $SLURM_SUBMIT_DIR: submit from the repository's folder"
python=${PYTHON:-python}
[[ -z ${PYTHON:-} && -x .venv/bin/python ]] && python=.venv/bin/python

mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
((${#machines[@]} > 0)) || fail "scontrol names no machine in $SLURM_JOB_NODELIST"
# A port of its own, so that two jobs may share a machine; below those that systems hand out.
port=$((10000 + SLURM_JOB_ID % 20000))

launcher=(
  "$python" -u tracking/train.py "$@"
  --mode multiple
  --nnodes "${#machines[@]}"
  --nproc_per_node "${SLURM_GPUS_ON_NODE:-8}"
  --rdzv_endpoint "${machines[0]}:$port"
  # Another one after a requeue, lest a launcher that hangs from before is taken for one of now.
  --rdzv_id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"
  # A process that fails is started again with all the others, from the last checkpoint.
  --max_restarts 3
)
step=(
  srun
  --nodes "${#machines[@]}"
  --ntasks-per-node 1
  # Slurm does not hand this on to srun by itself.
  --cpus-per-task "${SLURM_CPUS_PER_TASK:-1}"
  # Launchers end one after the other, and the first must not take down those that still save…
  --kill-on-bad-exit=0
  # … but neither may one be waited for that hangs.
  --wait=300
)

out_of_time=0 interrupted=0
# To the launchers, not to srun: that would kill them at once.
trap 'out_of_time=1 interrupted=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1
# The job is cancelled or preempted: Slurm has told the launchers, and this script only waits for them.
trap 'interrupted=1' TERM

"${step[@]}" "${launcher[@]}" &
launched=$!
while
  interrupted=0
  wait "$launched"
  status=$?
  ((interrupted))
do :; done

# 143: the training was stopped by SIGTERM, and has saved. Anything else would come to the same end again.
if ((out_of_time && status == 143)); then
  printf 'out of time: saved, and queued again\n'
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
