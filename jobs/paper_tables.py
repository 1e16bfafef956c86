"""Compares what our levels and soft labels make of public labels with two papers' tables.

    python jobs/paper_tables.py --labels DIR

Prints a line a figure of Q-Align (Table 2 and the released level words) and DeQA-Score (Tables 1,
2 and A1). A figure holds if our value rounds to the printed one; those that published labels are
known not to give are marked ``known``. Exits with 0 where all others hold, 1 where one does not,
2 where DIR can't be used. Takes some seconds.

DIR holds these CSV files, with these columns among theirs:

koniq10k_distributions_sets.csv: image_name, c1 to c5, MOS, SD, set; as KonIQ-10k's owners
    publish it (database.mmsp-kn.de), also in github.com/vztu/koniq-PyTorch.
kadid10k_dmos_std.csv: dist, dmos, std; dist_img and dmos of the owners' dmos.csv
    (database.mmsp-kn.de) and the square root of its var, as DeQA-Score takes it.
vqr1_SPAQ.csv: c0, c1, c2, which are the name, 1 + 4 (MOS - 2) / 94 and the std of SPAQ's MOS, as
    published with github.com/TianheWu/VisualQuality-R1; the MOS are github.com/h4nwei/SPAQ's.
qalign_koniq.csv, qalign_spaq.csv, qalign_kadid.csv: name, score, level, split (train or test);
    qalign_test_lsvq.csv, qalign_test_lsvq_1080p.csv: name, score, level; all from the JSON files
    of github.com/Q-Future/Q-Align, playground/data: the image, its score, the answer's word.
fastvqa_lsvq_train.csv: mos; LSVQ's training labels, examplar_data_labels/train_labels.txt of
    github.com/VQAssessment/DOVER, with a header.
ava_idealo_test.csv: n1 to n10; votes of ava_labels_test.json of
    github.com/idealo/image-quality-assessment, data/AVA.

The terms of use of each are its owners'.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from beholder.config import job_arguments, run_job
from beholder.evaluation.paper_figures import FIGURES, report
from beholder.evaluation.paper_tables import PaperTablesConfig, measure


def main(argv: list[str]) -> int:
    """Parses the command line and runs the comparison."""
    options = {"labels": "labels"}
    config = job_arguments(PaperTablesConfig, argv, __doc__ or "", options=options).config
    return report(FIGURES, measure(Path(config.labels)), print)


if __name__ == "__main__":
    run_job(main)
