"""Sets of pictures rated for quality."""

from dataclasses import replace

from beholder.datasets.public.described import ASK, IN_USE, LabelFile, PublicSet
from beholder.opinions import Scale


def _before_underscore(name: str) -> str:
    """The reference's name in those of PIPAL and TID2013: A0102_00_00.bmp is made from A0102."""
    return name.partition("_")[0].upper()


_KONIQ = PublicSet(
    name="koniq",
    title="KonIQ-10k",
    task="quality",
    kind="image",
    scale=Scale(1, 5),
    meaning="mos: mean answer; std: of the answers, unbiased; votes: answers bad..excellent; "
    "attributes: MOS, z-scored per rater and mapped to 0..100",
    files=(LabelFile("koniq10k_distributions_sets.csv"),),
    rows=10_073,
    item="{image_name}",
    media=("1024x768", "512x384"),
    votes=("c1", "c2", "c3", "c4", "c5"),
    vote_total="c_total",
    std="SD",
    attributes={"zscored": "MOS"},
    split="set",
    split_names={"training": "train", "validation": "val", "test": "test"},
    source_url="https://database.mmsp-kn.de/koniq-10k-database.html",
    terms=ASK,
    citation="Hosu, Lin, Sziranyi, Saupe: KonIQ-10k, IEEE TIP 2020",
    certainty="checked on a copy of the file: counts whole, SD equal to that of the votes in 5e-12",
)
_KONIQ_ZSCORE = replace(
    _KONIQ,
    name="koniq_zscore",
    title="KonIQ-10k (z-scored MOS)",
    scale=Scale(0, 100),
    meaning="mos: z-scored per rater and mapped to 0..100, what Q-Align learns; no std in its unit",
    mos="MOS",
    std="",
    votes=(),
    vote_total="",
    attributes={},
    certainty="checked on a copy of the file: 3.9 to 88.4",
)
_SPAQ = PublicSet(
    name="spaq",
    title="SPAQ",
    task="quality",
    kind="image",
    scale=Scale(0, 100),
    meaning="mos: mean answer; its files have no std",
    files=(LabelFile("Annotations/MOS and Image attribute scores.xlsx", "xlsx"),),
    rows=11_125,
    item="{Image name}",
    media=("TestImage",),
    mos="MOS",
    attributes={
        "brightness": "Brightness",
        "colorfulness": "Colorfulness",
        "contrast": "Contrast",
        "noisiness": "Noisiness",
        "sharpness": "Sharpness",
    },
    source_url="https://github.com/h4nwei/SPAQ",
    terms="education and research; commercial use only by permission (its Readme)",
    citation="Fang, Zhu, Zeng, Ma, Wang: Perceptual quality of smartphone photography, CVPR 2020",
    certainty=IN_USE,
)
_KADID = PublicSet(
    name="kadid",
    title="KADID-10k",
    task="quality",
    kind="image",
    scale=Scale(1, 5),
    meaning="mos: the column dmos, where higher is better; std: the column var, see certainty",
    files=(LabelFile("dmos.csv"),),
    rows=10_125,
    item="{dist_img}",
    media=("images",),
    mos="dmos",
    std="var",
    origin="{ref_img}",
    source_url="https://database.mmsp-kn.de/kadid-10k-database.html",
    terms=ASK,
    citation="Lin, Hosu, Saupe: KADID-10k, QoMEX 2019",
    certainty=f"{IN_USE}; var holds stds: hundreds of rows equal sqrt(f(1-f)), the least that "
    "answers with that mean can have; DeQA-Score took its square root for its labels",
)
_PIPAL = PublicSet(
    name="pipal",
    title="PIPAL (training part)",
    task="quality",
    kind="image",
    scale=Scale(900, 1850),
    meaning="mos: Elo rating, which has no bounds: the scale covers 916.7 to 1836.0; no std",
    files=(
        LabelFile(
            "Train_Label/*.txt",
            columns=("name", "elo"),
            derive={"reference": ("name", _before_underscore)},
        ),
    ),
    rows=23_200,
    item="{name}",
    media=("Train_Distort", "Train_Dist", "Dist_Imgs"),
    mos="elo",
    origin="{reference}",
    source_url="https://github.com/HaomingCai/PIPAL-dataset",
    terms=ASK,
    citation="Gu, Cai, Chen, Ye, Ren, Dong: PIPAL, ECCV 2020",
    certainty=f"{IN_USE}; put the pictures of all its archives into one folder",
)
_CLIVE = PublicSet(
    name="clive",
    title="LIVE In the Wild",
    task="quality",
    kind="image",
    scale=Scale(0, 100),
    meaning="mos: mean answer; std: of the answers",
    files=(
        LabelFile(
            "Data/AllImages_release.mat",
            "mat",
            columns=("AllImages_release",),
            skip=7,
            beside=tuple(
                LabelFile(f"Data/{name}.mat", "mat", columns=(name,), skip=7)
                for name in ("AllMOS_release", "AllStdDev_release")
            ),
        ),
    ),
    rows=1_162,
    item="{AllImages_release}",
    media=("Images",),
    mos="AllMOS_release",
    std="AllStdDev_release",
    source_url="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
    terms="free with the notice of the University of Texas at Austin (its readme)",
    citation="Ghadiyaram, Bovik: Massive online crowdsourced study, IEEE TIP 2016",
    certainty="its readme: 1,169 entries, the first 7 of which trained the raters and are left out",
)
_AGIQA = PublicSet(
    name="agiqa3k",
    title="AGIQA-3K",
    task="quality",
    kind="image",
    scale=Scale(0, 5),
    meaning="mos, std: of perceptual quality; attributes: agreement with the prompt",
    files=(LabelFile("data.csv"),),
    rows=2_982,
    item="{name}",
    media=("", "images", "Images"),
    mos="mos_quality",
    std="std_quality",
    attributes={"alignment": "mos_align", "alignment_std": "std_align"},
    texts={"prompt": "prompt"},
    source_url="https://github.com/lcysyzxdxc/AGIQA-3k-Database",
    terms="LICENSE in the owners' repository",
    citation="Li et al.: AGIQA-3K, IEEE TCSVT 2023",
    certainty="checked on a copy of the file: 0 to 4.49",
)
_TID = PublicSet(
    name="tid2013",
    title="TID2013",
    task="quality",
    kind="image",
    scale=Scale(0, 9),
    meaning="mos: mean of pairwise choices; mos_std.txt looks like standard errors and is not read",
    files=(
        LabelFile(
            "mos_with_names.txt",
            "words",
            columns=("mos", "name"),
            derive={"reference": ("name", _before_underscore)},
        ),
    ),
    rows=3_000,
    item="{name}",
    media=("distorted_images",),
    mos="mos",
    origin="{reference}",
    source_url="https://www.ponomarenko.info/tid2013.htm",
    terms=ASK,
    citation="Ponomarenko et al.: TID2013, Signal Processing: Image Communication 2015",
    certainty=f"{IN_USE}; names are matched in any case of letters",
)
_CSIQ_FOLDERS = {
    "noise": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
}
_CSIQ = PublicSet(
    name="csiq",
    title="CSIQ",
    task="quality",
    kind="image",
    scale=Scale(0, 1),
    meaning="mos: 1 - dmos, so that higher is better; std: the column dmos_std",
    files=(
        LabelFile(
            "csiq.DMOS.xlsx",
            "xlsx",
            sheet="all_by_image",
            derive={
                "folder": ("dst_type", lambda name: _CSIQ_FOLDERS[name][0]),
                "token": ("dst_type", lambda name: _CSIQ_FOLDERS[name][1]),
            },
        ),
    ),
    rows=866,
    item="{folder}/{image}.{token}.{dst_lev}.png",
    media=("dst_imgs",),
    mos="dmos",
    lower_is_better=True,
    std="dmos_std",
    origin="{image}",
    source_url="https://s2.smu.edu/~eclarson/csiq.html",
    terms=ASK,
    citation="Larson, Chandler: Most apparent distortion, J. Electronic Imaging 2010",
    certainty=f"{IN_USE}; the sheet's header stands in row 4, from column D on",
)
_FLIVE = PublicSet(
    name="flive",
    title="FLIVE (LIVE-FB, PaQ-2-PiQ)",
    task="quality",
    kind="image",
    scale=Scale(0, 100),
    meaning="mos: mean answer about the whole picture; no std; patches are not read",
    files=(LabelFile("labels_image.csv"),),
    rows=39_810,
    item="{name}",
    media=("", "images", "database"),
    mos="mos",
    members={
        "val": LabelFile(
            "labels<=640_padded.csv",
            only=("is_valid", "True"),
            derive={"item": ("name_image", str)},
        ),
        "test": LabelFile("labels>640.csv", derive={"item": ("name_image", str)}),
    },
    member="{name}",
    source_url="https://github.com/niu-haoran/FLIVE_Database",
    terms=ASK,
    citation="Ying et al.: From patches to pictures, CVPR 2020",
    certainty=f"{IN_USE}; test is what exceeds 640 pixels, val is marked is_valid",
)

IMAGE_QUALITY = (_KONIQ, _KONIQ_ZSCORE, _SPAQ, _KADID, _PIPAL, _CLIVE, _AGIQA, _TID, _CSIQ, _FLIVE)
