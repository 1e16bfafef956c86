from pathlib import Path

from beholder.items import Item


def test_ids_are_paths_or_positions() -> None:
    assert Item.of("s3://b/k.jpg", 3).item_id == "s3://b/k.jpg"
    assert Item.of(Path("a.png"), 3).item_id == "a.png"
    assert Item.of(b"\xff\xd8", 3).item_id == "item-3"
    item = Item("x", "a.png", "image")
    assert Item.of(item, 0) is item
