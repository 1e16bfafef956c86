"""Compares our mPLUG-Owl2, losses and metrics with numbers recorded from the released code.

    python jobs/check_parity.py --golden tests/golden/mplug_owl2

Prints a line a case and exits with 0 where all are within the folder's tolerances, 1 where one
is not, 2 where the folder is not of this format. Takes a few seconds on one core.
"""

import argparse
import sys
from pathlib import Path

# Works in a checkout where the package is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "platform"))

from beholder.backbones.mplug_owl2.golden import report
from beholder.training.parity import compare


def main() -> int:
    """Parses the command line and runs the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--golden", type=Path, required=True, help="folder of recorded cases")
    parser.add_argument("--tokenizer", type=Path, help="LLaMA's tokenizer.json, to compare ids")
    arguments = parser.parse_args()
    return report(compare(arguments.golden, arguments.tokenizer), arguments.golden, print)


if __name__ == "__main__":
    sys.exit(main())
