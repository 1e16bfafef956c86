"""Each set's files in the form in which their owners publish them, with rows made up here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.io import savemat

from beholder.datasets.public import PUBLIC_SETS, LabelError, read_public

PARA_VOTES = ",".join(f"aestheticScore_{n / 2:.1f}" for n in range(2, 11))
PARA_HEADER = (
    f"imageName,sessionId,semantic,{PARA_VOTES},aestheticScore_mean,aestheticScore_std,"
    "qualityScore_mean,qualityScore_std,compositionScore_mean,colorScore_mean,dofScore_mean,"
    "lightScore_mean,contentScore_mean"
)
MAXWELL_HEADER = "O," + ",".join(f"A-{n}" for n in (1, 2, 3, 4, 5, "all")) + ","
MAXWELL_HEADER += ",".join(f"T-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, "all"))
MAXWELL_NAMES = "examplar_data_labels/MaxWell/{}_labels.txt"
AADB_ATTRIBUTES = (
    *("BalacingElements", "ColorHarmony", "Content", "DoF", "Light", "MotionBlur", "Object"),
    *("Repetition", "RuleOfThirds", "Symmetry", "VividColor"),
)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Writes text files and empty media below a folder, then reads a set from it."""

    def run(name: str, files: dict[str, str], media: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        for path, text in files.items() | {(path, "") for path in media}:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text, "utf-8")
        table = read_public(PUBLIC_SETS[name], tmp_path)
        assert isinstance(table, pa.Table)
        assert set(table["dataset"].to_pylist()) == {name}
        assert set(table["kind"].to_pylist()) == {PUBLIC_SETS[name].kind}
        return table.to_pylist()

    return run


KONIQ = """image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set
1.jpg,0.0,0.0,0.25,0.5,0.25,4,77.4,0.816496580928,training
2.jpg,0.5,0.5,0.0,0.0,0.0,4,10.0,0.57735026919,validation
3.jpg,0.0,0.0,0.333333333333,0.666666666667,0.0,3,60.0,0.57735026919,test
"""


def test_koniq(read, tmp_path) -> None:
    rows = read("koniq", {"koniq10k_distributions_sets.csv": KONIQ}, ("1024x768/1.jpg",))
    assert [r["item_id"] for r in rows] == ["1.jpg", "2.jpg", "3.jpg"]
    assert rows[0]["uri"] == str(tmp_path / "1024x768/1.jpg")
    assert [r["found"] for r in rows] == [True, False, False]
    assert [r["mos"] for r in rows] == pytest.approx([4.0, 1.5, 3 + 2 / 3])
    assert [r["votes"] for r in rows] == [[0, 0, 1, 2, 1], [2, 2, 0, 0, 0], [0, 0, 1, 2, 0]]
    assert [r["std"] for r in rows] == pytest.approx([0.8164966, 0.5773503, 0.5773503])
    assert [r["split"] for r in rows] == ["train", "val", "test"]
    assert [r["attribute_zscored"] for r in rows] == [77.4, 10.0, 60.0]


def test_koniq_zscore_has_the_other_scale_and_no_std(read) -> None:
    rows = read("koniq_zscore", {"koniq10k_distributions_sets.csv": KONIQ})
    assert [r["mos"] for r in rows] == [77.4, 10.0, 60.0]
    assert "std" not in rows[0] and "votes" not in rows[0]


def test_spaq(read, write_xlsx, tmp_path) -> None:
    (tmp_path / "Annotations").mkdir()
    header = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness"]
    values = [["00001.jpg", 45.25, 50, 51, 52.5, 53, 54], ["00002.jpg", 60, 1, 2, 3, 4, 5]]
    path = tmp_path / "Annotations/MOS and Image attribute scores.xlsx"
    write_xlsx(path, {"Sheet1": [[*header, "Sharpness"], *values]})
    rows = read("spaq", {}, ("TestImage/00002.jpg",))
    assert [(r["item_id"], r["mos"], r["found"]) for r in rows] == [
        ("00001.jpg", 45.25, False),
        ("00002.jpg", 60.0, True),
    ]
    assert rows[0]["attribute_contrast"] == 52.5


def test_kadid_var_is_a_std(read) -> None:
    text = "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.496\n"
    (row,) = read("kadid", {"dmos.csv": text}, ("images/I01_01_01.png",))
    assert (row["mos"], row["source"], row["found"]) == (4.57, "I01.png", True)
    assert row["std"] == 0.496


def test_pipal(read) -> None:
    files = {
        "Train_Label/A0001.txt": "A0001_00_00.bmp,1461.9\nA0001_00_01.bmp,1300.5\n",
        "Train_Label/A0002.txt": "A0002_00_00.bmp,1200\n",
    }
    rows = read("pipal", files, ("Train_Dist/A0002_00_00.bmp",))
    assert [(r["source"], r["mos"], r["found"]) for r in rows] == [
        ("A0001", 1461.9, False),
        ("A0001", 1300.5, False),
        ("A0002", 1200.0, True),
    ]


def test_clive_leaves_out_the_raters_training(read, tmp_path) -> None:
    names = np.array([f"t{n}.bmp" for n in range(1, 8)] + ["3.bmp", "10.JPG"], dtype=object)
    (tmp_path / "Data").mkdir()
    for name, values in (
        ("AllImages_release", names.reshape(-1, 1)),
        ("AllMOS_release", np.array([[1.0] * 7 + [63.5, 20.25]])),
        ("AllStdDev_release", np.array([[9.0] * 7 + [18.5, 21.0]])),
    ):
        savemat(tmp_path / f"Data/{name}.mat", {name: values})
    rows = read("clive", {}, ("Images/10.JPG",))
    assert [(r["item_id"], r["mos"], r["std"], r["found"]) for r in rows] == [
        ("3.bmp", 63.5, 18.5, False),
        ("10.JPG", 20.25, 21.0, True),
    ]


def test_agiqa3k(read) -> None:
    header = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align"
    text = f'{header}\nAttnGAN_normal_000.jpg,"a hat, red",,,,0.97,0.22,0.41,0.62\n'
    (row,) = read("agiqa3k", {"data.csv": text}, ("AttnGAN_normal_000.jpg",))
    assert (row["mos"], row["std"], row["found"]) == (0.97, 0.22, True)
    assert row["attributes"] == [("prompt", "a hat, red")]
    assert (row["attribute_alignment"], row["attribute_alignment_std"]) == (0.41, 0.62)


def test_tid2013_matches_names_in_any_case(read, tmp_path) -> None:
    text = "5.51429 I01_01_1.bmp\n4.70968 i25_01_2.bmp\n"
    files = {"mos_with_names.txt": text, "mos_std.txt": "0.13013\n0.13832\n"}
    rows = read("tid2013", files, ("distorted_images/I25_01_2.BMP",))
    assert [(r["mos"], r["source"], r["found"]) for r in rows] == [
        (5.51429, "I01", False),
        (4.70968, "I25", True),
    ]
    assert rows[1]["uri"] == str(tmp_path / "distorted_images/I25_01_2.BMP")
    assert "std" not in rows[0]


def test_csiq_turns_dmos_around(read, write_xlsx, tmp_path) -> None:
    header = ["image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
    body = [[1600, 1, "noise", 1, 0.061, 0.062], ["lake", 3, "jpeg 2000", 5, 0.1, 1]]
    above: list = [["CSIQ"], [], []]
    padded = [[None, None, None, *row] for row in (header, *body)]
    path = tmp_path / "csiq.DMOS.xlsx"
    write_xlsx(path, {"all_by_distortion": [["other"]], "all_by_image": [*above, *padded]})
    rows = read("csiq", {}, ("dst_imgs/awgn/1600.AWGN.1.png",))
    assert [(r["item_id"], r["source"], r["std"], r["found"]) for r in rows] == [
        ("awgn/1600.AWGN.1.png", "1600", 0.061, True),
        ("jpeg2000/lake.jpeg2000.5.png", "lake", 0.1, False),
    ]
    assert [r["mos"] for r in rows] == pytest.approx([0.938, 0.0])


def test_flive_splits_by_its_lists(read) -> None:
    files = {
        "labels_image.csv": "name,mos\nvoc/a.jpg,70.5\nvoc/b.jpg,71\nblur/c.jpg,72\n",
        "labels<=640_padded.csv": "name_image,mos_image,is_valid\nvoc/a.jpg,70.5,False\n"
        "voc/b.jpg,71,True\n",
        "labels>640.csv": "name_image,mos_image\nblur/c.jpg,72\n",
    }
    rows = read("flive", files, ("voc/a.jpg",))
    assert [(r["mos"], r["split"], r["found"]) for r in rows] == [
        (70.5, "train", True),
        (71.0, "val", False),
        (72.0, "test", False),
    ]


def test_ava_takes_mean_and_std_over_its_votes(read) -> None:
    files = {
        "AVA.txt": "1 953619 0 1 5 17 38 36 15 6 5 1 1 22 1396\n"
        "2 953958 0 0 0 0 2 2 0 0 0 0 15 21 1396\n",
        "aesthetics_image_lists/generic_test.jpgl": "953958\n",
    }
    rows = read("ava", files, ("images/953619.jpg",))
    assert rows[0]["votes"] == [0, 1, 5, 17, 38, 36, 15, 6, 5, 1]
    assert rows[0]["mos"] == pytest.approx(5.637097, abs=1e-6)  # the first row of the real file
    assert (rows[1]["mos"], rows[1]["std"]) == pytest.approx((5.5, np.std([5, 5, 6, 6], ddof=1)))
    assert [r["split"] for r in rows] == ["train", "test"]


def test_tad66k(read) -> None:
    files = {
        "labels/merge/train.csv": "image,score\na.jpg,7.5\n",
        "labels/merge/test.csv": "image,score\nb.jpg,1.9\n",
    }
    rows = read("tad66k", files, ("imgs/a.jpg",))
    assert [(r["mos"], r["split"]) for r in rows] == [(7.5, "train"), (1.9, "test")]


def test_aadb_joins_attributes_by_name(read) -> None:
    start = "imgListFiles_label/imgList{}Regression_{}.txt"
    files = {}
    for part, names in (("Train", "ab"), ("Validation", "c"), ("TestNew", "d")):
        lines = [f"{name}.jpg 0.5" for name in names]
        files[start.format(part, "score")] = "\n".join(lines) + "\n"
        for attribute in AADB_ATTRIBUTES:
            shuffled = [f"{name}.jpg {ord(name) / 200} 3 4" for name in reversed(names)]
            files[start.format(part, attribute)] = "\n".join(shuffled) + "\n"
    media = ("datasetImages_originalSize/a.jpg", "AADB_newtest_originalSize/0.500_d.jpg")
    rows = read("aadb", files, media)
    assert [(r["item_id"], r["split"], r["found"]) for r in rows] == [
        ("a.jpg", "train", True),
        ("b.jpg", "train", False),
        ("c.jpg", "val", False),
        ("0.500_d.jpg", "test", True),
    ]
    assert rows[0]["attribute_rule_of_thirds"] == ord("a") / 200
    assert sum(name.startswith("attribute_") for name in rows[1]) == 11


def test_para(read) -> None:
    values = "iaa_pub1_.jpg,session1,animal,0,0,0,5,15,4,1,0,0,3.02,0.35,3.1,.4,3,3.2,2.9,3,3.3"
    files = {
        "annotation/PARA-GiaaTrain.csv": f"{PARA_HEADER}\n{values}\n",
        "annotation/PARA-GiaaTest.csv": f"{PARA_HEADER}\n{values.replace('pub1_', 'pub2_')}\n",
    }
    rows = read("para", files, ("imgs/session1/iaa_pub1_.jpg",))
    assert [(r["item_id"], r["split"], r["found"]) for r in rows] == [
        ("session1/iaa_pub1_.jpg", "train", True),
        ("session1/iaa_pub2_.jpg", "test", False),
    ]
    assert (rows[0]["mos"], rows[0]["std"]) == (3.02, 0.35)
    assert rows[0]["votes"] == [0, 0, 0, 5, 15, 4, 1, 0, 0]
    assert rows[0]["attribute_content"] == 3.3


def test_icaa17k_takes_mos_and_not_the_colour_before_it(read) -> None:
    header = "ID,color,MOS,probability"
    files = {
        "1train.csv": f"{header}\nmono/red/a@N01.jpg,5.6,6.7,0.69\n",
        "1test.csv": f"{header}\nmono/blue/b.jpg,6.2,4.3,0.62\n",
    }
    rows = read("icaa17k", files, ("images/mono/red/a@N01.jpg",))
    assert [(r["mos"], r["split"], r["found"]) for r in rows] == [
        (6.7, "train", True),
        (4.3, "test", False),
    ]
    assert rows[0]["attribute_color"] == 5.6


def test_icaa17k_row_that_nobody_rated_for_colour_has_none(read) -> None:
    header = "ID,color,MOS,probability"
    files = {"1train.csv": f"{header}\na.jpg,,6.7,0.6\n", "1test.csv": f"{header}\nb.jpg,5,6,1\n"}
    rows = read("icaa17k", files)
    assert [r["attribute_color"] for r in rows] == [None, 5.0]
    with pytest.raises(LabelError, match="color is 'red', no number"):
        read("icaa17k", files | {"1train.csv": f"{header}\na.jpg,red,6.7,0.6\n"})


def test_lsvq(read) -> None:
    header = "name,p1,p2,p3,height,width,mos_p1,mos_p2,mos_p3,mos,frame_number,is_test"
    body = "yfcc-batch1/725,,,,360,640,,,,76.8,240,False\nia-batch2/x,,,,360,640,,,,50.9,1,True\n"
    rows = read("lsvq", {"labels_train_test.csv": f"{header}\n{body}"}, ("yfcc-batch1/725.mp4",))
    assert [(r["item_id"], r["mos"], r["split"], r["found"]) for r in rows] == [
        ("yfcc-batch1/725.mp4", 76.8, "train", True),
        ("ia-batch2/x.mp4", 50.9, "test", False),
    ]


def test_lsvq_1080p_is_all_test(read) -> None:
    text = "name,height,width,mos\nyfcc-batch1/722,1080,1920,78.8\n"
    (row,) = read("lsvq_1080p", {"labels_test_1080p.csv": text})
    assert (row["mos"], row["split"]) == (78.8, "test")


def test_konvid(read) -> None:
    files = {"KoNViD_1k_mos.csv": '"flickr_id","mos"\n4542323058,3.22\n'}
    (row,) = read("konvid", files, ("KoNViD_1k_videos/4542323058.mp4",))
    assert (row["item_id"], row["mos"], row["found"]) == ("4542323058.mp4", 3.22, True)


def test_maxwell_takes_names_from_the_file_beside_it(read) -> None:
    values = ",".join(str(-n / 20) for n in range(15))
    files = {
        "MaxWell_train.csv": f"{MAXWELL_HEADER}\n1.06,{values}\n1.14,{values}\n",
        MAXWELL_NAMES.format("train"): "0000.mp4, -1, -1, 1.213\n0002.mp4, -1, -1, 1.292\n",
        "MaxWell_val.csv": f"{MAXWELL_HEADER}\n1.03,{values}\n",
        MAXWELL_NAMES.format("test"): "0001.mp4, -1, -1, 1.186\n",
    }
    rows = read("maxwell", files, ("videos/0002.mp4",))
    assert [(r["item_id"], r["mos"], r["split"], r["found"]) for r in rows] == [
        ("0000.mp4", 1.06, "train", False),
        ("0002.mp4", 1.14, "train", True),
        ("0001.mp4", 1.03, "test", False),
    ]
    assert rows[0]["attribute_fluency"] == -0.65
    (Path(rows[0]["uri"]).parent.parent / MAXWELL_NAMES.format("train")).write_text("0000.mp4,,,\n")
    with pytest.raises(LabelError, match="has 1 rows and the file beside it 2: get both"):
        read("maxwell", {})


def test_realqa(read) -> None:
    """Both of LLaMA-Factory's forms; answers about attributes alone are no rows."""
    score = "The score of this image is 3.99."
    train = [
        {"messages": [{"role": "user", "content": "<image>Score?"},
                      {"role": "assistant", "content": score}], "images": ["images/a.jpg"]},
        {"messages": [{"role": "user", "content": "<image>Composition?"},
                      {"role": "assistant", "content": "Good."}], "images": ["images/a.jpg"]},
    ]  # fmt: skip
    thought = "The subject is whole. The score of this image is <7.50>."
    test = [
        {"conversations": [{"from": "human", "value": "<image>Score?"},
                           {"from": "gpt", "value": thought}], "images": ["images/b.jpg"]},
        {"instruction": "<image>Score?", "input": "", "output": score, "images": ["images/c.jpg"]},
    ]  # fmt: skip
    files = {
        "data/aesthetic_high_and_low_9502_4300.json": json.dumps(train),
        "data/realqa_test.json": json.dumps(test),
    }
    rows = read("realqa", files, ("images/a.jpg",))
    assert [(r["mos"], r["split"]) for r in rows] == [
        (3.99, "train"),
        (7.5, "test"),
        (3.99, "test"),
    ]
    assert [r["found"] for r in rows] == [True, False, False]
    files["data/realqa_test.json"] = '{"not": "a list"}'
    with pytest.raises(
        LabelError, match=r"realqa_test.json can't be read as chat: .*: get it again"
    ):
        read("realqa", files)


def test_every_set_is_tested_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    for name in PUBLIC_SETS:
        assert any(test == name or test.startswith(f"{name}_") for test in tested), name


@pytest.mark.parametrize("some", PUBLIC_SETS.values(), ids=list(PUBLIC_SETS))
def test_every_row_says_whose_it_is_and_what_it_means(some) -> None:
    assert some.rows > 0 and some.media and some.meaning and some.citation and some.terms
    assert some.source_url.startswith("https://")
    assert set(some.split_names.values()) <= {"train", "val", "test"}
    assert bool(some.split) == bool(some.split_names)
