from pathlib import Path

import pytest

from beholder.datasets.own import own_csv
from beholder.datasets.public import LabelError
from beholder.items import check_manifest
from beholder.opinions import Scale


def read(root: Path, text: str, base: str | None = None) -> list[dict]:
    (root / "labels.csv").write_text(text, "utf-8")
    table = own_csv(root / "labels.csv", base or str(root), Scale(1, 5), "image", "mine")
    return check_manifest(table, "own", need=("mos",)).to_pylist()


def refused(root: Path, text: str) -> str:
    with pytest.raises(LabelError) as error:
        read(root, text)
    assert str(error.value).startswith(f"{root}/labels.csv")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_uri_and_mos_are_enough(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    rows = read(tmp_path, "uri,mos\na.jpg,3.5\ns/b c.jpg,1\n")
    assert rows == [
        {
            "item_id": "a.jpg",
            "uri": f"{tmp_path}/a.jpg",
            "kind": "image",
            "mos": 3.5,
            "dataset": "mine",
            "found": True,
        },
        {
            "item_id": "s/b c.jpg",
            "uri": f"{tmp_path}/s/b c.jpg",
            "kind": "image",
            "mos": 1.0,
            "dataset": "mine",
            "found": False,
        },
    ]


def test_votes_as_columns_or_as_a_list(tmp_path: Path) -> None:
    columns = read(tmp_path, "uri,mos,c2,c1,c3,std\na,2,5,4,0,0.5\nb,2,,,,\n")
    assert [r["votes"] for r in columns] == [[4, 5, 0], None]
    assert [r["std"] for r in columns] == [0.5, None]
    listed = read(tmp_path, 'uri,mos,votes\na,2,"[4, 5, 0]"\n')
    assert listed[0]["votes"] == [4, 5, 0]


def test_other_columns_are_carried_through(tmp_path: Path) -> None:
    text = "uri,mos,kind,split,source,owner,weight,shop\na,2,video,test,s1,me,0.5,north\n"
    (row,) = read(tmp_path, text)
    assert (row["kind"], row["split"], row["source"]) == ("video", "test", "s1")
    assert (row["owner"], row["weight"], row["shop"]) == ("me", 0.5, "north")


def test_uris_stay_and_relative_ones_get_the_base(tmp_path: Path) -> None:
    places = [f"file://{tmp_path}/x/a.jpg", f"{tmp_path}/b.jpg"]
    rows = read(tmp_path, "uri,mos\n" + "".join(f"{place},2\n" for place in places))
    assert [r["uri"] for r in rows] == places
    (row,) = read(tmp_path, "uri,mos\nc.jpg,2\n", base=f"file://{tmp_path}/x/")
    assert row["uri"] == f"file://{tmp_path}/x/c.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,mos\na,2\n", "has no column 'uri', it has ['file', 'mos']: add or rename it"),
        ("uri,score\na,2\n", "has no column 'mos'"),
        ("uri,mos,mos\na,2,2\n", "has two columns 'mos': rename one"),
        ("uri,mos\n", "has a header and no rows"),
        ("uri,mos\na,2\nb,nan\n", "row 3: mos is 'nan', no number: correct the label or remove"),
        ("uri,mos\na,2\nb,\n", "row 3: mos is '', no number"),
        ("uri,mos\na,20\n", "row 2: mos is 20.0, outside of the declared scale [1, 5]"),
        ("uri,mos,std\na,2,-1\n", "row 2: std is -1.0"),
        ("uri,mos\n,2\n", "row 2 has no uri: add it or remove the row"),
        ("uri,mos\na,2\nb,2\na,3\n", "row 4 is about"),
        ("uri,mos\na,b,2\n", "row 2 has 3 cells of 2: put quotes"),
        ("uri,mos,split\na,2,dev\n", "row 2: split is 'dev': use train, val, test"),
        ("uri,mos,c1,c3\na,2,1,1\n", "has vote columns ['c1', 'c3']: number them c1, c2"),
        ("uri,mos,c1\na,2,1\n", "has vote columns ['c1']"),
        (
            "uri,mos,c0,c1,c2,c3,c4\na,2,1,2,3,2,1\n",
            "has vote columns ['c0', 'c1', 'c2', 'c3', 'c4']: number them c1, c2, .. cK",
        ),
        (
            "uri,mos,c1,c2\na,2,1,100000000000000\n",
            "row 2: votes are ['1', '100000000000000']: write how often each answer was given, "
            "worst to best, 2,147,483,647 times at most",
        ),
        ("uri,mos\na,2\n./a,3\n", "row 3 is about"),
        ("uri,mos\n/x/a,2\n/x/./a,3\n", "row 3 is about /x/a, and so is"),
        ("uri,mos,c1,c2\na,2,1,0.5\n", "row 2: votes are ['1', '0.5']: write how often"),
        ("uri,mos,c1,c2\na,2,0,0\n", "row 2: votes are ['0', '0']"),
        ("uri,mos,votes\na,2,many\n", "row 2: votes is 'many': write a list as [0, 2, 5, 3, 0]"),
        ("uri,mos,votes,c1,c2\na,2,,1,1\n", "has votes both in 'votes' and in ['c1', 'c2']"),
        ("uri,mos,dataset\na,2,x\n", "has a column 'dataset', which is written here: rename it"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


def test_the_largest_count_still_fits(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "uri,mos,c1,c2\na,2,0,2147483647\n")
    assert row["votes"] == [0, 2147483647]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"^there is no .*labels\.csv: give root the folder"):
        own_csv(tmp_path / "labels.csv", str(tmp_path), Scale(1, 5), "image", "mine")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"uri,mos\n\xff\xfe,2\n")
    with pytest.raises(LabelError, match=r"labels.csv can't be read as CSV: .*save it as UTF-8"):
        own_csv(tmp_path / "labels.csv", str(tmp_path), Scale(1, 5), "image", "mine")


def test_attributes_are_numbers_and_may_be_missing(tmp_path: Path) -> None:
    rows = read(tmp_path, "uri,mos,attribute_light,note\na,2,3.5,x\nb,3,,y\n")
    assert [r["attribute_light"] for r in rows] == [3.5, None]
    assert [r["note"] for r in rows] == ["x", "y"]
    message = refused(tmp_path, "uri,mos,attribute_light\na,2,dim\n")
    assert "row 2: attribute_light is 'dim', no number" in message
