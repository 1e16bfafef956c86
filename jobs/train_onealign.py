"""Trains one scorer on a mix of quality, aesthetics and video (One-Align, Q-Align section 4.4).

Run it on a started Ray, from the repository's root::

    ray job submit --working-dir . -- python jobs/train_onealign.py \\
        --config configs/train/onealign_pocket.yaml

It ends with an evaluated scorer folder and prints where. ``--dry-run`` needs no Ray, GPU or
weights: it prints the resolved config, the data mix, steps, parameters by part and memory.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from beholder.config import job_arguments, run_job
from beholder.training.config import TrainConfig


def main(argv: list[str]) -> None:
    """Parses the command line and trains, or describes what it would train."""
    flags = {"dry-run": "print what would be trained, and stop"}
    arguments = job_arguments(TrainConfig, argv, __doc__ or "", flags=flags)
    if arguments.flags["dry-run"]:
        from beholder.training.plan import describe_run

        print(describe_run(arguments.config))
        return
    from beholder.training.run import train

    summary = train(arguments.config)
    for name, metrics in summary["metrics"].items():
        if "not_measured" in metrics:
            print(f"{name}: not measured: {metrics['not_measured']}")
        for column in arguments.config.evaluate:
            if column in metrics:
                print(f"{name}: SRCC against {column} {metrics[column]['srcc']:.3f}")
    print(f"scorer {summary['fingerprint']} at {summary['scorer']}")


if __name__ == "__main__":
    run_job(main)
