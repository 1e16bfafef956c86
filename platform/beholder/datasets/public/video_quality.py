"""Sets of videos rated for quality."""

from dataclasses import replace

from beholder.datasets.public.described import ASK, IN_USE, LabelFile, PublicSet
from beholder.opinions import Scale

_LSVQ = PublicSet(
    name="lsvq",
    title="LSVQ",
    task="quality",
    kind="video",
    scale=Scale(0, 100),
    meaning="mos: mean answer about the whole clip; no std",
    files=(LabelFile("labels_train_test.csv"),),
    rows=35_238,
    item="{name}.mp4",
    media=("",),
    mos="mos",
    split="is_test",
    split_names={"false": "train", "true": "test", "0": "train", "1": "test"},
    source_url="https://github.com/baidut/PatchVQ",
    terms="free with the notice of the University of Texas at Austin (its README)",
    citation="Ying, Mandal, Ghadiyaram, Bovik: Patch-VQ, CVPR 2021",
    certainty=f"{IN_USE}; a republished copy has 7,186 instead of 7,182 test rows",
)
_LSVQ_1080P = replace(
    _LSVQ,
    name="lsvq_1080p",
    title="LSVQ-1080p",
    files=(LabelFile("labels_test_1080p.csv", split="test"),),
    rows=3_573,
    split="",
    split_names={},
    certainty=IN_USE,
)
_KONVID = PublicSet(
    name="konvid",
    title="KoNViD-1k",
    task="quality",
    kind="video",
    scale=Scale(1, 5),
    meaning="mos: mean answer; no std in this file",
    files=(LabelFile("KoNViD_1k_mos.csv"),),
    rows=1_200,
    item="{flickr_id}.mp4",
    media=("KoNViD_1k_videos", ""),
    mos="mos",
    source_url="https://database.mmsp-kn.de/konvid-1k-database.html",
    terms=ASK,
    citation="Hosu et al.: The Konstanz natural video database, QoMEX 2017",
    certainty=f"{IN_USE}; 1,200 rows, 1.22 to 4.64 in a republished copy",
)
_MAXWELL_ATTRIBUTES = {
    "content": "A-1",
    "composition": "A-2",
    "color": "A-3",
    "lighting": "A-4",
    "trajectory": "A-5",
    "aesthetics": "A-all",
    "sharpness": "T-1",
    "focus": "T-2",
    "noise": "T-3",
    "motion_blur": "T-4",
    "flicker": "T-5",
    "exposure": "T-6",
    "compression": "T-7",
    "fluency": "T-8",
    "technical": "T-all",
}


def _maxwell_file(labels: str, names: str, split: str) -> LabelFile:
    listed = LabelFile(f"examplar_data_labels/MaxWell/{names}", columns=("file", "", "", ""))
    return LabelFile(labels, split=split, beside=(listed,))


_MAXWELL = PublicSet(
    name="maxwell",
    title="MaxWell (DIVIDE)",
    task="quality",
    kind="video",
    scale=Scale(1, 5),
    meaning="mos: the column O, overall; no std; attributes: -1..1, A-all and T-all 1..5",
    files=(
        _maxwell_file("MaxWell_train.csv", "train_labels.txt", "train"),
        _maxwell_file("MaxWell_val.csv", "test_labels.txt", "test"),
    ),
    rows=4_543,
    item="{file}",
    media=("videos", ""),
    mos="O",
    attributes=_MAXWELL_ATTRIBUTES,
    source_url="https://github.com/VQAssessment/ExplainableVQA",
    terms=ASK,
    citation="Wu et al.: Towards explainable in-the-wild video quality assessment, ACM MM 2023",
    certainty="labels checked on copies: 3,634 and 909 rows, O 1.03 to 4.74; they name no videos: "
    "those stand line by line in examplar_data_labels/MaxWell",
)

VIDEO_QUALITY = (_LSVQ, _LSVQ_1080P, _KONVID, _MAXWELL)
