import pytest
from PIL import Image

from tests.data.videos import indices
from vdc.data.reader import BadVideo, open_video


@pytest.fixture
def images(tmp_path):
    for i in range(12):
        Image.new("RGB", (48, 32), (3 * i, 0, 0)).save(tmp_path / f"img_{i + 1}.png")
    Image.new("L", (48, 32)).save(tmp_path / "flow_x_1.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_images_are_frames_in_order_of_their_numbers(images):
    reader = open_video(str(images))
    assert len(reader) == 12
    assert indices(reader.get([11, 0, 9, 9])) == [11, 0, 9, 9]
    assert reader.get([0], (8, 10)).shape == (1, 8, 10, 3)
    reader.check()


def test_a_list_may_use_fewer_images_but_not_more(images):
    assert len(open_video(str(images), 5)) == 5
    with pytest.raises(BadVideo, match="holds 12 images, expected 13"):
        open_video(str(images), 13)


def test_a_broken_image_is_named(images):
    (images / "img_4.png").write_bytes(b"broken")
    with pytest.raises(BadVideo, match=r"img_4\.png: cannot be decoded"):
        open_video(str(images)).get([3])
    with pytest.raises(BadVideo, match=r"img_4\.png"):
        open_video(str(images)).check()


def test_images_of_different_sizes_need_a_size(images):
    Image.new("RGB", (20, 20)).save(images / "img_2.png")
    with pytest.raises(BadVideo, match="different sizes"):
        open_video(str(images)).get([0, 1])
    assert open_video(str(images)).get([0, 1], (8, 8)).shape == (2, 8, 8, 3)


def test_an_empty_folder_is_no_video(tmp_path):
    with pytest.raises(BadVideo, match="holds 0 images"):
        open_video(str(tmp_path))


def test_hidden_images_and_odd_numbers_do_no_harm(tmp_path):
    names = ["img_1\u00b2.png", f"img_{'9' * 5000}.png"[:200] + ".png", "img_002.png"]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "._img_1.png").write_bytes(b"resource fork")
    reader = open_video(str(tmp_path))
    assert len(reader) == 3
    reader.check()
