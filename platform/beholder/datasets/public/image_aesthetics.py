"""Sets of pictures rated for aesthetics."""

from beholder.datasets.public.described import ASK, IN_USE, LabelFile, PublicSet
from beholder.opinions import Scale

_AVA = PublicSet(
    name="ava",
    title="AVA",
    task="aesthetics",
    kind="image",
    scale=Scale(1, 10),
    meaning="mos, std: mean and unbiased std of the votes; votes: answers 1 to 10",
    files=(
        LabelFile("AVA.txt", "words", columns=("index", "image", *(f"c{n}" for n in range(1, 11)))),
    ),
    rows=255_530,
    item="{image}.jpg",
    media=("images", "image", "ava_images"),
    votes=tuple(f"c{n}" for n in range(1, 11)),
    members={
        "test": LabelFile("aesthetics_image_lists/generic_test.jpgl", "words", columns=("item",))
    },
    member="{image}",
    source_url="https://github.com/imfing/ava_downloader",
    terms="pictures belong to their photographers at dpchallenge.com; labels: " + ASK,
    citation="Murray, Marchesotti, Perronnin: AVA, CVPR 2012",
    certainty=f"{IN_USE}; test is generic_test.jpgl, 19,930 pictures",
)
_TAD = PublicSet(
    name="tad66k",
    title="TAD66K",
    task="aesthetics",
    kind="image",
    scale=Scale(1, 10),
    meaning="mos: mean answer; no std",
    files=(
        LabelFile("labels/merge/train.csv", split="train"),
        LabelFile("labels/merge/test.csv", split="test"),
    ),
    rows=66_327,
    item="{image}",
    media=("imgs", "images", ""),
    mos="score",
    source_url="https://github.com/woshidandan/TANet-image-aesthetics-and-quality-assessment",
    terms=ASK,
    citation="He, Zhang, Xie, Jiang, Ming: Rethinking image aesthetics assessment, IJCAI 2022",
    certainty="test.csv checked on a copy: 14,079 rows, 1.39 to 9.28; the folders as readers use "
    "them; the scale's lower end is not stated in the files",
)
_AADB_ATTRIBUTES = {
    "balancing_elements": "BalacingElements",
    "color_harmony": "ColorHarmony",
    "content": "Content",
    "depth_of_field": "DoF",
    "light": "Light",
    "motion_blur": "MotionBlur",
    "object": "Object",
    "repetition": "Repetition",
    "rule_of_thirds": "RuleOfThirds",
    "symmetry": "Symmetry",
    "vivid_color": "VividColor",
}


def _aadb_file(part: str, split: str) -> LabelFile:
    start = f"imgListFiles_label/imgList{part}Regression_"
    return LabelFile(
        f"{start}score.txt",
        "words",
        columns=("name", "score"),
        split=split,
        # Its test pictures carry their score in the file name.
        derive={"prefix": ("score", lambda s: f"{float(s):.3f}_" if split == "test" else "")},
        beside=tuple(
            LabelFile(f"{start}{column}.txt", "words", columns=("name", column))
            for column in _AADB_ATTRIBUTES.values()
        ),
    )


_AADB = PublicSet(
    name="aadb",
    title="AADB",
    task="aesthetics",
    kind="image",
    scale=Scale(0, 1),
    meaning="mos: mean answer of five raters; no std; attributes: the raters' means",
    files=(
        _aadb_file("Train", "train"),
        _aadb_file("Validation", "val"),
        _aadb_file("TestNew", "test"),
    ),
    rows=9_958,
    item="{prefix}{name}",
    media=(
        "datasetImages_originalSize",
        "datasetImages_warp256",
        "AADB_newtest_originalSize",
        "AADB_newtest",
    ),
    mos="score",
    attributes=_AADB_ATTRIBUTES,
    source_url="https://github.com/aimerykong/deepImageAestheticsAnalysis",
    terms=ASK,
    citation="Kong, Shen, Lin, Mech, Fowlkes: Photo aesthetics ranking network, ECCV 2016",
    certainty=f"{IN_USE}; 8,458 and 1,000 rows checked on a copy of another form",
)
_PARA = PublicSet(
    name="para",
    title="PARA",
    task="aesthetics",
    kind="image",
    scale=Scale(1, 5),
    meaning="mos, std: of the aesthetic score; votes: answers 1, 1.5, .. 5",
    files=(
        LabelFile("annotation/PARA-GiaaTrain.csv", split="train"),
        LabelFile("annotation/PARA-GiaaTest.csv", split="test"),
    ),
    rows=31_220,
    item="{sessionId}/{imageName}",
    media=("imgs",),
    mos="aestheticScore_mean",
    std="aestheticScore_std",
    votes=tuple(f"aestheticScore_{n / 2:.1f}" for n in range(2, 11)),
    attributes={
        name: f"{name}Score_mean"
        for name in ("quality", "composition", "color", "dof", "light", "content")
    },
    source_url="https://cv-datasets.institutecv.com/#/data-sets",
    terms="research and learning only, no commercial activity (its README, section 2)",
    citation="Yang et al.: Personalized image aesthetics with rich attributes, CVPR 2022",
    certainty=f"its README, and {IN_USE}",
)
_ICAA = PublicSet(
    name="icaa17k",
    title="ICAA17K",
    task="aesthetics",
    kind="image",
    scale=Scale(0, 10),
    meaning="mos: the column MOS, overall; attributes: the score of its colours; no std",
    files=(LabelFile("1train.csv", split="train"), LabelFile("1test.csv", split="test")),
    rows=17_726,
    item="{ID}",
    media=("", "images", "ICAA17K"),
    mos="MOS",
    attributes={"color": "color"},
    source_url="https://github.com/woshidandan/Image-Color-Aesthetics-and-Quality-Assessment",
    terms="Apache-2.0 badge on the owners' repository; pictures: " + ASK,
    citation="He, Ming, Li, Sun, Zheng, Ma: Thinking image color aesthetics, ICCV 2023",
    certainty="header ID,color,MOS,probability read in the owners' repository; 0..10 from its "
    "code, which divides by 10",
)
_SCORE_SAID = r"score of this image is <?(?P<score>\d+(?:\.\d+)?)>?"
"""RealQA's answer, with the number in angle brackets where a chain of thought ends in it."""
_REALQA = PublicSet(
    name="realqa",
    title="RealQA",
    task="aesthetics",
    kind="image",
    scale=Scale(0, 10),
    meaning="mos: the score in the answer; conversations about attributes alone are left out",
    files=(
        LabelFile("data/aesthetic_*.json", "chat", split="train", says=_SCORE_SAID),
        LabelFile("data/realqa_test.json", "chat", split="test", says=_SCORE_SAID),
    ),
    rows=14_715,
    item="{media}",
    media=("", "images"),
    mos="score",
    source_url="https://github.com/AMAP-ML/RealQA",
    terms=ASK,
    citation="Li, Wang, Sun, Bai, Chu: Next token is enough, arXiv 2503.06141, 2025",
    certainty="the owners' readme (LLaMA-Factory conversations, the training file's name) and "
    "their evaluation, which takes the score out of this sentence; the test file's name follows "
    "that of its data set; no copy was seen",
)

IMAGE_AESTHETICS = (_AVA, _TAD, _AADB, _PARA, _ICAA, _REALQA)
