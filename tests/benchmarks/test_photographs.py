import pytest

from benchmarks.photographs import in_folder


def make(root, *names):
    for name in names:
        path = root / name
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True)


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (("annotations/person_keypoints_train2017.json", "train2017"), "train2017"),
        (("annotations/person_keypoints_a.json", "annotations/person_keypoints_val.json", "images/val"), "images/val"),
    ],
)
def test_annotations_and_images_are_found(tmp_path, names, images):
    make(tmp_path, *names)
    found = in_folder(tmp_path, "mine")
    assert found.images == tmp_path / images
    assert found.annotations.stem.endswith(found.images.name)


def test_another_layout_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="COCO's layout"):
        in_folder(tmp_path, "mine")
    make(tmp_path, "annotations/person_keypoints_val.json")
    with pytest.raises(FileNotFoundError, match="no folder val/ or images/val/"):
        in_folder(tmp_path, "mine")
