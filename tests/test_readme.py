"""A table between its marks: replaced as a whole, and nothing else is touched."""

import pytest

from vssl_jax import readme
from vssl_jax.errors import UserError


def test_only_what_is_between_the_marks_changes(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n<!-- y: begin -->\n<!-- y: end -->\n")
    readme.put(path, "x", "new\nlines")
    assert path.read_text() == "a\n<!-- x: begin -->\nnew\nlines\n<!-- x: end -->\nb\n<!-- y: begin -->\n<!-- y: end -->\n"
    readme.put(path, "x", "old")
    assert "new" not in path.read_text()


@pytest.mark.parametrize(
    "text", ["", "<!-- x: begin -->", "<!-- x: end --><!-- x: begin -->", "<!-- x: begin --><!-- x: begin --><!-- x: end -->"]
)
def test_marks_that_are_not_there_once_each_are_an_error(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(UserError, match="once each"):
        readme.put(path, "x", "new")
    with pytest.raises(UserError, match="once each"):
        readme.check(path, "x")
    assert path.read_text() == text
    with pytest.raises(UserError, match="no such file"):
        readme.put(tmp_path / "none", "x", "new")
