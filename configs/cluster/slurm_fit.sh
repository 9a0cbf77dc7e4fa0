#!/bin/bash
# One run on all GPUs of several nodes of a SLURM cluster:
#   sbatch configs/cluster/slurm_fit.sh --config configs/recipes/modern.yaml --model.backbone=resnet50
#SBATCH --job-name=cnn-compare-fit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
set -euo pipefail
export CNN_COMPARE_DATA_DIR=${CNN_COMPARE_DATA_DIR:-$HOME/data}
# Lightning reads the rank of each process from SLURM. --data.batch_size is that of all GPUs together.
srun cnn-compare fit "$@" --trainer.strategy=ddp --trainer.num_nodes="$SLURM_JOB_NUM_NODES" \
  --trainer.devices="$SLURM_NTASKS_PER_NODE" --trainer.sync_batchnorm=true
