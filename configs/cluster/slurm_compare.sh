#!/bin/bash
# A comparison on several nodes of a SLURM cluster, one run per GPU:
#   sbatch configs/cluster/slurm_compare.sh configs/comparisons/report.yaml
# Submit it again to resume, for example after the job's time limit.
#SBATCH --job-name=cnn-compare
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
set -euo pipefail

# The data's folder on each node; a node without the data downloads it to there.
export CNN_COMPARE_DATA_DIR=${CNN_COMPARE_DATA_DIR:-$HOME/data}

# Only holders of the token can connect; all nodes read it from the shared home folder.
export RAY_AUTH_MODE=token
ray get-auth-token --generate >/dev/null

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | cut -d ' ' -f 1):6379

# Starts Ray on all nodes and the command on the first one, and stops Ray when the command ends.
srun --ntasks="$SLURM_JOB_NUM_NODES" \
  ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$SLURM_GPUS_ON_NODE" -- \
  cnn-compare compare --config "$1" --executor=ray --ray_address="$address" --resources_per_run='{GPU: 1, CPU: 4}'
