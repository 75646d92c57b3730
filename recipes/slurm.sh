#!/usr/bin/env bash
# Two machines with four GPUs each train one decoder, from the root of the checkout:
#   sbatch recipes/slurm.sh hparams/esc50.yaml --data_folder=ESC50 --batch_size=64 --output_folder=results/esc50_batch64
# The same line resumes a run that ended early; see recipes/README-distributed.md.
#SBATCH --job-name=lmaczs
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1 # a torchrun, which starts a process for each GPU
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --output=lmaczs-%j.txt
set -euo pipefail

read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share a machine

# Without --kill-on-bad-exit a machine would wait for one that is gone.
srun --kill-on-bad-exit=1 .venv/bin/python -m torch.distributed.run \
    --nnodes="$SLURM_NNODES" \
    --nproc_per_node="${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv_backend=c10d \
    --rdzv_id="$SLURM_JOB_ID" \
    --rdzv_endpoint="$first:$port" \
    recipes/train.py "$@"
