#!/bin/bash
# The paper's base model on two nodes with eight GPUs each: sbatch experiments/slurm.sh
# 90 seconds before the time limit the job saves a checkpoint, goes back into the queue, and later continues.
#SBATCH --job-name=wmt14_en_de_base
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=6
#SBATCH --time=04:00:00
#SBATCH --signal=SIGUSR1@90
#SBATCH --requeue
#SBATCH --open-mode=append

# If one process fails, all end. The others would wait for it.
srun --kill-on-bad-exit=1 python -m lit_transformer.fit --config wmt14_en_de/base \
    --devices 8 --trainer.num_nodes 2 --ckpt_path auto
