"""Files that can't be used: one sentence with the file, the row and the remedy."""

import os
from pathlib import Path

import pytest

from beholder.datasets.public import PUBLIC_SETS, LabelError, PublicSet, read_public
from beholder.datasets.public.media import MediaFolders

KADID, KONIQ = PUBLIC_SETS["kadid"], PUBLIC_SETS["koniq"]
HEADER = "dist_img,ref_img,dmos,var\n"
GOOD = "I01_01_01.png,I01.png,4.57,0.5\n"
VOTES = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set\n"


def refused(some: PublicSet, root: Path) -> str:
    with pytest.raises(LabelError) as error:
        read_public(some, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def kadid(root: Path, text: str) -> str:
    (root / "dmos.csv").write_text(text)
    return refused(KADID, root)


def test_a_wrong_folder(tmp_path: Path) -> None:
    assert refused(KADID, tmp_path / "nowhere").startswith(f"{tmp_path}/nowhere is no folder")
    assert f"{tmp_path} has no file 'dmos.csv': give the folder" in refused(KADID, tmp_path)


def test_a_missing_column(tmp_path: Path) -> None:
    message = kadid(tmp_path, "dist_img,ref_img,mos,var\n" + GOOD)
    assert f"{tmp_path}/dmos.csv has no column 'dmos'" in message
    assert "rename the column" in message


@pytest.mark.parametrize("label", ["nan", "", "inf", "good"])
def test_a_label_that_is_no_number(tmp_path: Path, label: str) -> None:
    message = kadid(tmp_path, f"{HEADER}{GOOD}I01_01_02.png,I01.png,{label},0.5\n")
    where = f"{tmp_path}/dmos.csv, row 3: dmos is '{label}', no number"
    assert message == f"{where}: correct the label or remove the row"


def test_a_label_outside_of_the_scale(tmp_path: Path) -> None:
    message = kadid(tmp_path, f"{HEADER}I01_01_01.png,I01.png,5.5,0.5\n")
    assert r"row 2: dmos is 5.5, outside of KADID-10k's scale [1, 5]: correct" in message


def test_a_negative_variance(tmp_path: Path) -> None:
    assert "row 2: var is -1.0" in kadid(tmp_path, f"{HEADER}I01_01_01.png,I01.png,3,-1\n")


def test_one_medium_twice(tmp_path: Path) -> None:
    message = kadid(tmp_path, HEADER + GOOD + GOOD)
    assert f"{tmp_path}/dmos.csv, row 3 is about {tmp_path}/images/I01_01_01.png" in message
    assert "row 2: keep one row for each medium" in message


def test_a_file_that_breaks_off(tmp_path: Path) -> None:
    message = kadid(tmp_path, HEADER + GOOD + "I01_01_02.png,I0")
    assert "row 3 has 2 cells of 4: get the file whole" in message
    assert "have no rows: get them again" in kadid(tmp_path, HEADER)


def test_votes_that_are_no_counts(tmp_path: Path) -> None:
    path = tmp_path / "koniq10k_distributions_sets.csv"
    path.write_text(f"{VOTES}1.jpg,0,0,0.3,0.5,0.2,4,70,0.8,test\n")
    assert "row 2: c3 is '0.3', no count of answers" in refused(KONIQ, tmp_path)
    path.write_text(f"{VOTES}1.jpg,0,0,0,0,0,0,70,0.8,test\n")
    assert "row 2 has no answers at all: remove the row" in refused(KONIQ, tmp_path)


def test_an_unknown_split(tmp_path: Path) -> None:
    path = tmp_path / "koniq10k_distributions_sets.csv"
    path.write_text(f"{VOTES}1.jpg,0,0,0,0.5,0.5,4,70,0.8,dev\n")
    assert "row 2: set is 'dev': use one of training" in refused(KONIQ, tmp_path)


def test_files_of_another_form(tmp_path: Path, write_xlsx) -> None:
    path = tmp_path / "csiq.DMOS.xlsx"
    path.write_text("image,dmos")
    message = refused(PUBLIC_SETS["csiq"], tmp_path)
    assert f"{path} can't be read as xlsx" in message
    write_xlsx(path, {"Sheet1": [["image"]]})
    assert f"{path} has no 'all_by_image' inside" in refused(PUBLIC_SETS["csiq"], tmp_path)
    header = ["image", "dst_type", "dst_lev", "dmos_std", "dmos"]
    write_xlsx(path, {"all_by_image": [["about"], header[:4]]})
    assert f"{path} has no column 'dmos'" in refused(PUBLIC_SETS["csiq"], tmp_path)
    write_xlsx(path, {"all_by_image": [header, ["lake", "fog", 1, 0.1, 0.2]]})
    assert "row 2: dst_type is 'fog', which the set does not have" in refused(
        PUBLIC_SETS["csiq"], tmp_path
    )
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data/AllImages_release.mat").write_bytes(b"\x00" * 200)
    for name in ("AllMOS_release", "AllStdDev_release"):
        (tmp_path / f"Data/{name}.mat").write_bytes(b"no matrix")
    assert "can't be read as mat" in refused(PUBLIC_SETS["clive"], tmp_path)


def test_folders_are_listed_once_and_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "b" / "1.png").touch()
    listed = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: listed.append(place) or scan(place))
    folders = MediaFolders(str(tmp_path), ("a", "b"))
    assert folders.find("1.PNG") == (f"{tmp_path}/b/1.png", True)
    assert folders.find("2.png") == (f"{tmp_path}/a/2.png", False)
    assert listed == [f"{tmp_path}/a", f"{tmp_path}/b"]


def test_media_below_a_uri(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    folders = MediaFolders(f"file://{tmp_path}/", ("", "a"))
    assert folders.find("1.png") == (f"file://{tmp_path}/a/1.png", True)
    assert folders.find("2.png") == (f"file://{tmp_path}/2.png", False)
