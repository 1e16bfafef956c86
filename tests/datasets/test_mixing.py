import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.datasets import TrainingSet, concatenate, few_shot
from beholder.items import ManifestError
from beholder.opinions.scale import Scale


def manifest(mos: list[float], **columns: list[str]) -> pa.Table:
    ids = [f"i{n}" for n in range(len(mos))]
    base = {"item_id": ids, "uri": ids, "kind": ["image"] * len(mos), "mos": mos}
    return pa.table(base | columns)


def test_rows_keep_their_own_scale_and_carry_their_task() -> None:
    mixed = concatenate(
        [
            TrainingSet("a", manifest([10.0, 90.0]), "quality", Scale(0, 100)),
            TrainingSet("b", manifest([3.0], source=["lion"]), "aesthetics", Scale(1, 5)),
        ]
    )
    assert mixed["mos"].to_pylist() == [10.0, 90.0, 3.0]
    assert mixed["set"].to_pylist() == ["a", "a", "b"]
    assert mixed["task"].to_pylist() == ["quality", "quality", "aesthetics"]
    assert mixed["scale_min"].to_pylist() == [0.0, 0.0, 1.0]
    assert mixed["scale_max"].to_pylist() == [100.0, 100.0, 5.0]
    assert mixed["source"].to_pylist() == [None, None, "lion"]


def test_a_label_outside_the_declared_scale_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"'i1' has mos 90.0, outside .*\[1, 5\]"):
        concatenate([TrainingSet("a", manifest([2.0, 90.0]), "quality", Scale(1, 5))])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_label_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ManifestError, match="leave out rows without a number"):
        concatenate([TrainingSet("a", manifest([value]), "quality", Scale(1, 5))])


def test_a_set_without_labels_is_refused() -> None:
    table = manifest([2.0]).drop_columns("mos")
    with pytest.raises(ManifestError, match="no column 'mos'"):
        concatenate([TrainingSet("a", table, "quality", Scale(1, 5))])


def test_names_and_columns_must_not_clash() -> None:
    one = TrainingSet("a", manifest([2.0]), "quality", Scale(1, 5))
    with pytest.raises(ManifestError, match="different names"):
        concatenate([one, one])
    with pytest.raises(ManifestError, match="already has a column 'task'"):
        concatenate([TrainingSet("a", manifest([2.0], task=["x"]), "quality", Scale(1, 5))])
    other = TrainingSet("b", manifest([2.0], source=["x"]), "quality", Scale(1, 5))
    number = one.table.append_column("source", pa.array([1]))
    with pytest.raises(ManifestError, match="can't be mixed"):
        concatenate([other, TrainingSet("c", number, "quality", Scale(1, 5))])


def split_manifest(count: int) -> pa.Table:
    table = manifest([3.0] * count)
    splits = ["test" if n % 4 == 0 else "train" for n in range(count)]
    return table.append_column("split", pa.array(splits))


def test_few_shot_takes_a_part_of_training_and_leaves_the_rest() -> None:
    table = split_manifest(400)
    few = few_shot(table, 0.1, seed=3)
    assert few["split"].to_pylist().count("train") == 30
    assert few["split"].to_pylist().count("test") == 100
    order = [int(item[1:]) for item in few["item_id"].to_pylist()]
    assert order == sorted(order)
    assert few_shot(table, 1, seed=3).equals(table)
    assert few_shot(manifest([3.0] * 9), 0.01, seed=3).num_rows == 1


def test_few_shot_is_nested_and_depends_on_the_seed_not_on_the_order() -> None:
    table = split_manifest(200)

    def taken(fraction: float, seed: int, rows: pa.Table = table) -> set[str]:
        return set(few_shot(rows, fraction, seed)["item_id"].to_pylist())

    assert taken(0.2, 0) < taken(0.3, 0) < taken(0.9, 0)
    assert taken(0.2, 0) != taken(0.2, 1)
    assert taken(0.2, 0, table.take(list(reversed(range(200))))) == taken(0.2, 0)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan")])
def test_few_shot_refuses_what_is_no_part(fraction: float) -> None:
    with pytest.raises(ValueError, match="is no part of the rows"):
        few_shot(split_manifest(8), fraction, seed=0)


def test_further_attributes_go_with_each_row_in_their_order() -> None:
    rated = manifest([2.0, 3.0]).append_column("c", pa.array([None, 4]))
    rated = rated.append_column("l", pa.array([1.5, 5.0]))
    names = {"light": "l", "color": "c"}
    sets = [
        TrainingSet("a", rated, "aesthetics", Scale(1, 5), attributes=names),
        TrainingSet("b", manifest([3.0]), "aesthetics", Scale(1, 5)),
    ]
    mixed = concatenate(sets)
    assert mixed["further"].to_pylist() == [
        [("light", 1.5), ("color", None)],
        [("light", 5.0), ("color", 4.0)],
        None,
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(mixed, sink)
    assert pq.read_table(pa.BufferReader(sink.getvalue())).equals(mixed), "a run that goes on asks"
